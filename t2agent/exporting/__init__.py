"""Experts and mixtures in the formats of other programs: PEFT adapters and plain checkpoints."""

from __future__ import annotations

from t2agent.exporting.lora import export_lora
from t2agent.exporting.merged import export_merged
from t2agent.exporting.report import LayerError, LoraExport, MergedExport

__all__ = ["LayerError", "LoraExport", "MergedExport", "export_lora", "export_merged"]
