"""Prompts: `<type>/<version>.md`, front matter and instructions; rendered so that data stays data.

A variable never joins the instructions. It becomes a block of the user message, its value as JSON between two tags:

    <question>
    "Will …?"
    </question>

JSON strings here hold no `<`, `>` or `&` (they are written as escapes), so no value can close its block or open
another.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import frontmatter
from frontmatter.default_handlers import YAMLHandler
from pydantic import Field, StringConstraints, ValidationError

from domain import answers
from domain.base import Model
from domain.canonical import sha256_hex
from domain.text import clean

if TYPE_CHECKING:  # the command line reads prompts too, and shall not wait for a client that it never uses
    from openai.types.chat import ChatCompletionSystemMessageParam, ChatCompletionUserMessageParam

    ChatMessage: TypeAlias = ChatCompletionSystemMessageParam | ChatCompletionUserMessageParam
    """A message as the OpenAI API takes it: role and content."""

VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z_]+$")]
VariableKind = Literal["text", "json"]
"""How a value is given to `render`: as text of any kind, or as JSON text that is passed on as JSON."""

AnswerModel: TypeAlias = type[Model]

_ANSWER_MODELS: dict[str, AnswerModel] = {
    name: model for name, model in vars(answers).items() if isinstance(model, type) and issubclass(model, Model)
}
BUNDLED = Path(__file__).parent
"""The folder with the prompts that come with the code."""

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


class PromptError(ValueError):
    """A prompt cannot be loaded or rendered; the message says what to correct."""


class _FrontMatter(Model):
    description: Annotated[str, StringConstraints(min_length=1)]
    variables: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[a-z_]+$")], VariableKind], Field(min_length=1)
    ]
    max_tokens: Annotated[int, Field(ge=1)]
    output: str


@dataclass(frozen=True)
class Prompt:
    """One version of one prompt type. `sha256` is of the whole file and names this text in an ai_version."""

    type: str
    version: str
    description: str
    variables: Mapping[str, VariableKind]
    """Kind by name, in the order of the blocks."""
    max_tokens: int
    """Limit of the answer's length."""
    output: AnswerModel
    """What the answer must parse as."""
    instructions: str
    sha256: str

    def render(self, **values: str) -> "list[ChatMessage]":
        """The instructions as system message, and the values as delimited data in a user message.

        Args:
            values: one for each variable, none left out: text, or JSON text where the variable's kind is `json`.

        Raises:
            PromptError: a variable is missing or unknown, or a JSON value is none.
        """
        if missing := [name for name in self.variables if name not in values]:
            raise PromptError(f"prompt {self.type} {self.version} needs the variable {missing[0]!r}: pass it, or ''")
        if unknown := [name for name in values if name not in self.variables]:
            known = ", ".join(self.variables)
            raise PromptError(f"prompt {self.type} {self.version} has no variable {unknown[0]!r}: pass only {known}")
        blocks = [f"<{name}>\n{self._data(name, values[name])}\n</{name}>" for name in self.variables]
        return [{"role": "system", "content": self.instructions}, {"role": "user", "content": "\n\n".join(blocks)}]

    def _data(self, name: str, value: str) -> str:
        content = value
        if self.variables[name] == "json":
            try:
                content = json.loads(value)
            except ValueError as error:
                raise PromptError(
                    f"variable {name!r} of prompt {self.type} {self.version} is not JSON ({error}): pass a JSON text"
                ) from error
        # Half surrogates cannot be sent.
        return clean(json.dumps(content, ensure_ascii=False)).translate(_ESCAPES)


def hashes(folder: Path = BUNDLED) -> dict[str, str]:
    """SHA-256 of every prompt file of a folder, by `<type>/<version>`."""
    files = sorted(folder.glob("*/*.md"))
    return {f"{file.parent.name}/{file.stem}": sha256_hex(file.read_bytes()) for file in files}


@functools.cache
def load(type: str, version: str = "v1", folder: Path = BUNDLED) -> Prompt:
    """The prompt of that type and version, read once in the life of a process.

    Raises:
        PromptError: there is no such prompt, or its file's front matter is wrong.
    """
    files = {(file.parent.name, file.stem): file for file in folder.glob("*/*.md")}
    if (type, version) not in files:
        known = ", ".join(" ".join(key) for key in sorted(files))
        raise PromptError(f"there is no prompt {type!r} in version {version!r}: known are {known}")
    content = files[type, version].read_bytes()
    metadata, instructions = frontmatter.parse(content.decode(), handler=YAMLHandler())
    try:
        front = _FrontMatter.model_validate(metadata)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise PromptError(
            f"correct the front matter of prompts/{type}/{version}.md: {where}: {fault['msg']}"
        ) from error
    if front.output not in _ANSWER_MODELS:
        raise PromptError(f"correct the front matter of prompts/{type}/{version}.md: no answer model {front.output!r}")
    return Prompt(
        type=type,
        version=version,
        description=front.description,
        variables=front.variables,
        max_tokens=front.max_tokens,
        output=_ANSWER_MODELS[front.output],
        instructions=instructions,
        sha256=sha256_hex(content),
    )
