"""The paper's few-shot strategy (C): a search for the mixture that answers some examples best."""
