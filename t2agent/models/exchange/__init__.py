"""Experts and mixtures in the formats of other programs: PEFT adapters and plain checkpoints."""

from __future__ import annotations

from t2agent.models.exchange.checkpoint import export_merged
from t2agent.models.exchange.peft_export import export_lora
from t2agent.models.exchange.records import LayerError, LoraExport, MergedExport

__all__ = ["LayerError", "LoraExport", "MergedExport", "export_lora", "export_merged"]
