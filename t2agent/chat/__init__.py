"""The faces for LangChain: `ChatT2`, `T2LLM`, the agent, and a model behind an endpoint."""
