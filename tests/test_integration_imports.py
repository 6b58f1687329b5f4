"""Without its tool, a module of `edgetam_hf.integrations` says in one line what to install."""

import importlib
import sys

import pytest

TOOLS = {"supervision": "supervision", "fiftyone": "fiftyone"}


@pytest.mark.parametrize(("name", "package"), TOOLS.items())
def test_integrations_reject_a_missing_tool(name, package, monkeypatch):
    for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"edgetam_hf.integrations.{name}", raising=False)
    with pytest.raises(ImportError, match=f"^[^\n]*: pip install {package}$"):
        importlib.import_module(f"edgetam_hf.integrations.{name}")
