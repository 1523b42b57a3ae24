"""Experts and mixtures in the formats of other programs.

PEFT's and llama.cpp's adapters and plain checkpoints are written; PEFT's adapters and the authors'
checkpoints are read.
"""

from __future__ import annotations

from t2agent.models.exchange.checkpoint import export_merged
from t2agent.models.exchange.gguf_export import export_gguf
from t2agent.models.exchange.peft_export import export_lora
from t2agent.models.exchange.peft_import import LayerShare, LoraImport, import_lora
from t2agent.models.exchange.records import GgufExport, LayerError, LoraExport, MergedExport
from t2agent.models.exchange.sakana import import_sakana

__all__ = [
    "GgufExport",
    "LayerError",
    "LayerShare",
    "LoraExport",
    "LoraImport",
    "MergedExport",
    "export_gguf",
    "export_lora",
    "export_merged",
    "import_lora",
    "import_sakana",
]
