"""What other programs have trained, as experts: the authors' checkpoints and PEFT's adapters."""

from __future__ import annotations

from t2agent.importing.lora import LayerShare, LoraImport, import_lora
from t2agent.importing.sakana import import_sakana

__all__ = ["LayerShare", "LoraImport", "import_lora", "import_sakana"]
