# Copyright 2026 The DeepRS Authors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What entries of a config come to, as plain data: references filled in, arithmetic done, what is disabled left out."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.bundle import EXPR_KEY, ID_REF_KEY, ID_SEP_KEY

from .. import MOVED

__all__ = ["arithmetic", "declared", "entry_at"]

REFERENCE = re.compile(r"@(\w+(?:::\w+)*)")
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"int": int, "float": float, "round": round, "len": len}
LARGEST, LONGEST, MOST = 10**12, 1000, 10**5  # numbers, lists, parts: a foreign text must not fill the memory


def declared(content: Any, config: Mapping[str, Any], evaluate: Callable[[str, str], Any], where: str = "") -> Any:
    """An entry of a config with no reference and no expression left in it.

    Args:
        content: of the entry.
        config: all entries, to which it may refer.
        evaluate: gives the value of an expression, from its id and its text.
        where: the id of the entry.

    Returns:
        Plain data, in which ``_target_`` names components; those that are disabled are left out.

    Raises:
        ValueError: a reference leads nowhere, or back to itself.
    """
    try:
        return _Entries(config, evaluate).value(content, where)
    except RecursionError as error:
        raise ValueError(f"{where}: its references lead in a circle, or it is nested too deep.") from error


class _Entries:
    """The entries of a config; a foreign one must not take for ever, so that what is visited is counted."""

    def __init__(self, config: Mapping[str, Any], evaluate: Callable[[str, str], Any]) -> None:
        self.config, self.evaluate, self.visited = config, evaluate, 0

    def value(self, content: Any, where: str) -> Any:
        self.visited += 1
        if self.visited > MOST:
            raise ValueError(f"{where}: with what it refers to, it has more than {MOST} parts.")
        if isinstance(content, str) and content.startswith(EXPR_KEY):
            return self.evaluate(where, content)
        if isinstance(content, str) and content.startswith(ID_REF_KEY):
            target = content[len(ID_REF_KEY) :]
            return self.value(entry_at(self.config, target, where), target)
        if isinstance(content, Mapping):
            parts = {key: self.value(part, _join(where, key)) for key, part in content.items()}
            if "_target_" in parts:
                parts["_target_"] = _present_name(parts["_target_"])
            return (
                None
                if _is_disabled(parts)
                else {key: part for key, part in parts.items() if _stays(content[key], part)}
            )
        if isinstance(content, list | tuple):
            parts = [self.value(part, _join(where, key)) for key, part in enumerate(content)]
            return [part for old, part in zip(content, parts, strict=True) if _stays(old, part)]
        return content


def _is_disabled(parts: Mapping[str, Any]) -> bool:
    disabled = parts.pop("_disabled_", False)
    return disabled.strip().lower() == "true" if isinstance(disabled, str) else bool(disabled)


def _stays(content: Any, part: Any) -> bool:
    return part is not None or not isinstance(content, Mapping)  # a mapping that came to nothing is a disabled one


def _present_name(target: Any) -> Any:
    """A class by its room, where a config of 0.6 names its module: ``scripts.state.PairState``."""
    package, _, rest = str(target).partition(".")
    module, _, name = rest.partition(".")
    return f"scripts.{MOVED[module]}.{name}" if package == "scripts" and module in MOVED and name else target


def _join(where: str, key: Any) -> str:
    return f"{where}{ID_SEP_KEY}{key}" if where else str(key)


def entry_at(config: Any, target: str, where: str) -> Any:
    """The entry of an id such as ``network_def::channels::0``.

    Raises:
        ValueError: there is none.
    """
    for key in target.split(ID_SEP_KEY):
        if isinstance(config, Mapping) and key in config:
            config = config[key]
        elif isinstance(config, Sequence) and not isinstance(config, str) and key.isdigit() and int(key) < len(config):
            config = config[int(key)]
        else:
            raise ValueError(f"{where} refers to `@{target}`, which is not there.")
    return config


def arithmetic(config: Mapping[str, Any]) -> Callable[[str, str], Any]:
    """What computes expressions without running them: numbers, lists, references, ``+ - * / // %``, and int, float,
    round and len of them. For entries that nobody trusts.

    Args:
        config: all entries, to which expressions may refer.

    Returns:
        For :func:`declared`; it raises ValueError for every other expression.
    """

    def evaluate(where: str, text: str) -> Any:
        values: dict[str, Any] = {}

        def name(found: re.Match) -> str:
            values[key := f"reference{len(values)}"] = entries.value(found[0], where)
            return key

        source = REFERENCE.sub(name, text[len(EXPR_KEY) :].strip())
        try:
            return _computed(ast.parse(source, mode="eval").body, values)
        except (SyntaxError, TypeError, ArithmeticError, ValueError, MemoryError) as error:
            raise ValueError(f"{where}: `{text[:80]}` would have to be run: it is more than arithmetic.") from error

    entries = _Entries(config, evaluate)
    return evaluate


def _computed(node: ast.AST, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float()):
            result = node.value
        case ast.Name(id=name) if name in values:
            result = values[name]
        case ast.List(elts=parts):
            result = [_number(_computed(part, values)) for part in parts]
        case ast.UnaryOp(op=sign, operand=one) if type(sign) in OPERATORS:
            result = OPERATORS[type(sign)](_computed(one, values))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            operands = _computed(left, values), _computed(right, values)
            if not isinstance(sign, ast.Mult) or not any(isinstance(one, list | str) for one in operands):
                result = OPERATORS[type(sign)](*operands)
            else:
                result = _repeated(*operands)
        case ast.Call(func=ast.Name(id=name), args=[one], keywords=[]) if name in FUNCTIONS:
            result = FUNCTIONS[name](_computed(one, values))
        case _:
            raise ValueError("not arithmetic")
    if isinstance(result, int | float) and abs(result) > LARGEST or isinstance(result, list) and len(result) > LONGEST:
        raise ValueError("too large")
    return result


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise ValueError("a list of something else than numbers")
    return value


def _repeated(*operands: Any) -> list:
    """``[32] * 3``; a text is never repeated, and no list is longer than ``LONGEST``."""
    (parts,) = [one for one in operands if isinstance(one, list)]
    (times,) = [one for one in operands if isinstance(one, int)]
    if len(parts) * times > LONGEST:
        raise ValueError("too long")
    return parts * times
