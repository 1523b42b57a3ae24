"""Tasks: where examples come from, and how replies are judged. No torch."""
