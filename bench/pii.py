"""The redaction engine at work: how fast on one core, how right, and how it compares with Presidio's analyzer.

`python -m bench.pii --json [--data FILE]...`: speed on invented chat (one message in twenty has personal data, one in
ten a number that looks like it) and on everything that is labelled; precision, recall and F1 by kind on 5,000 invented
sentences with decoys and on each FILE of labelled text (the JSON of presidio-research; without FILE, the one beside the
project, if it is there). A match counts when kind, start and end are those of the label. Presidio (`pip install
presidio-analyzer`, left out where it is missing) reads the same texts with its pattern recognisers of the same kinds
and no language model, in the same process. Time is the process's own, the best of several runs: other work on the
machine does not count.
"""

import argparse
import contextlib
import importlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.pii_sentences import Sentence, chat, sentences
from domain.redaction import Redactor

LABELLED = Path("../shared/data/pii/synth.json")
"""Read where no other file is named."""

KINDS_OF_LABELS = {
    "CREDIT_CARD": "CARD",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "PHONE_NUMBER": "PHONE",
    "US_SSN": "SSN",
}
"""What presidio-research calls our kinds; it labels no identity number of a state but the American."""

_PRESIDIO_ALSO = {
    "UK_NINO": "NATIONAL_ID",
    "ES_NIF": "NATIONAL_ID",
    "ES_NIE": "NATIONAL_ID",
    "IN_AADHAAR": "NATIONAL_ID",
    "IN_PAN": "NATIONAL_ID",
    "IT_FISCAL_CODE": "NATIONAL_ID",
    "FI_PERSONAL_IDENTITY_CODE": "NATIONAL_ID",
}
_PRESIDIO_THRESHOLD = 0.4
"""Presidio's score of a telephone without context; below are its guesses at any nine digits."""

Found = tuple[str, int, int]
Finder = Callable[[str], list[Found]]


def labelled(path: Path) -> list[Sentence]:
    """The texts of a file of presidio-research, with the spans of our kinds."""
    return [
        Sentence(
            one["full_text"],
            tuple(
                (KINDS_OF_LABELS[span["entity_type"]], span["start_position"], span["end_position"])
                for span in one["spans"]
                if span["entity_type"] in KINDS_OF_LABELS
            ),
        )
        for one in json.loads(path.read_text("utf-8"))
    ]


def scores(data: Sequence[Sentence], find: Finder) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 by kind and overall."""
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for sentence in data:
        got = set(find(sentence.text))
        for kind, _, _ in got:
            found.update([kind, "all"])
        for span in sentence.spans:
            there.update([span[0], "all"])
            right.update([span[0], "all"] if span in got else [])
    return {
        kind: {
            "spans": there[kind],
            "precision": round(right[kind] / found[kind], 4) if found[kind] else 0.0,
            "recall": round(right[kind] / there[kind], 4) if there[kind] else 0.0,
            "f1": round(2 * right[kind] / (found[kind] + there[kind]), 4),
        }
        for kind in sorted(found | there)
    }


def speed(texts: Sequence[str], read: Callable[[str], Any], runs: int) -> dict[str, float]:
    """Characters and items a second of processor time, the best of `runs`."""
    seconds = min(_seconds(texts, read) for _ in range(runs))
    characters = sum(map(len, texts))
    return {
        "characters": characters,
        "items": len(texts),
        "characters_a_second": round(characters / seconds),
        "items_a_second": round(len(texts) / seconds),
    }


def _seconds(texts: Sequence[str], read: Callable[[str], Any]) -> float:
    started = time.process_time()
    for text in texts:
        read(text)
    return time.process_time() - started


def presidio() -> Finder | None:
    """Presidio's analyzer with our kinds and no language model, or None where it is not installed."""
    with contextlib.suppress(ImportError):
        analyzers = importlib.import_module("presidio_analyzer")
        engines = importlib.import_module("presidio_analyzer.nlp_engine")
        domains: Any = importlib.import_module("tldextract")
        domains.extract = domains.TLDExtract(suffix_list_urls=())  # its own copy of the list, no download
        kinds = KINDS_OF_LABELS | _PRESIDIO_ALSO
        words = engines.SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
        words.nlp = {"en": importlib.import_module("spacy").blank("en")}
        registry = analyzers.RecognizerRegistry(supported_languages=["en"])
        registry.load_predefined_recognizers(languages=["en"])
        for recognizer in list(registry.recognizers):
            if not kinds.keys() & set(recognizer.supported_entities) or "Spacy" in recognizer.name:
                registry.remove_recognizer(recognizer.name)
        analyzer = analyzers.AnalyzerEngine(registry=registry, nlp_engine=words, supported_languages=["en"])

        def find(text: str) -> list[Found]:
            results = analyzer.analyze(text, language="en", entities=list(kinds), score_threshold=_PRESIDIO_THRESHOLD)
            return [(kinds[one.entity_type], one.start, one.end) for one in results]

        return find
    return None


def measure(data: Sequence[Path], count: int, characters: int, runs: int) -> dict[str, Any]:
    """All figures; `count` invented sentences, `characters` of chat."""
    redactor = Redactor(b"a key of the measurement")

    def find(text: str) -> list[Found]:
        return [(str(one.kind), one.start, one.end) for one in redactor.redact(text).findings]

    sets = {"invented": sentences(count)} | {path.name: labelled(path) for path in data}
    texts = {"chat": chat(characters)} | {name: [one.text for one in of] for name, of in sets.items()}
    result: dict[str, Any] = {
        "speed": {name: speed(of, redactor.redact, runs) for name, of in texts.items()},
        "scores": {name: scores(of, find) for name, of in sets.items()},
    }
    other = presidio()
    if other:
        few = {name: of[:1_000] for name, of in texts.items()}
        result["presidio"] = {
            "speed": {name: speed(of, other, 1) for name, of in few.items()},
            "scores": {name: scores(of, other) for name, of in sets.items()},
        }
        result["times_as_fast"] = {
            name: round(
                speed(of, redactor.redact, runs)["characters_a_second"]
                / result["presidio"]["speed"][name]["characters_a_second"]
            )
            for name, of in few.items()
        }
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.pii", description=__doc__)
    parser.add_argument("--data", type=Path, action="append", default=[], help="labelled text (may be repeated)")
    parser.add_argument("--sentences", type=int, default=5_000, help="invented, with decoys (default 5,000)")
    parser.add_argument("--characters", type=int, default=2_000_000, help="of invented chat (default 2,000,000)")
    parser.add_argument("--runs", type=int, default=5, help="of which the best counts (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    data = arguments.data or [path for path in (LABELLED,) if path.exists()]
    print(json.dumps(measure(data, arguments.sentences, arguments.characters, arguments.runs)))


if __name__ == "__main__":
    main()
