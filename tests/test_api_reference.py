"""Every public name has a docstring, and what a docstring lists as arguments is there."""

import inspect
import re

import pytest

import edgetam_hf

ARGUMENTS = re.compile(r"^Args:\n((?:    .*\n|\n)+)", re.MULTILINE)
NAMES = re.compile(r"^    (\w+(?:, \w+)*)(?: \(.*)?:", re.MULTILINE)


def public_functions():
    """Pairs (name, function) of the public functions and of the methods that public classes define themselves."""
    for name in edgetam_hf.__all__:
        value = getattr(edgetam_hf, name)
        if inspect.isfunction(value):
            yield name, value
        for member, function in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(function, "__func__", function)  # of a class method
            if inspect.isfunction(function) and not member.startswith("_"):
                yield f"{name}.{member}", function


@pytest.mark.parametrize("name", [name for name in edgetam_hf.__all__ if name != "__version__"])
def test_public_name_has_a_docstring(name):
    assert getattr(edgetam_hf, name).__doc__


@pytest.mark.parametrize(("name", "function"), [pytest.param(*pair, id=pair[0]) for pair in public_functions()])
def test_public_function_has_a_docstring_with_the_names_of_its_arguments(name, function):
    assert function.__doc__
    parameters = inspect.signature(function).parameters
    documented = ARGUMENTS.search((inspect.getdoc(function) or "") + "\n")
    names = [name for names in NAMES.findall(documented[1]) for name in names.split(", ")] if documented else []
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    assert takes_more or set(names) <= set(parameters)
