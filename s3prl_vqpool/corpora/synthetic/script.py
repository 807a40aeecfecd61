"""The texts of the embedded corpora."""

from __future__ import annotations

UNKNOWN = [
    "bed",
    "bird",
    "cat",
    "dog",
    "eight",
    "five",
    "four",
    "happy",
    "house",
    "marvin",
    "nine",
    "one",
    "seven",
    "sheila",
    "six",
    "three",
    "tree",
    "two",
    "wow",
    "zero",
]
"""The words of Speech Commands v0.01 beside the ten keywords."""

SENTENCES = [
    f"{who} {what} {where}."
    for who in (
        "The old captain",
        "My younger sister",
        "A quiet neighbour",
        "Nobody in town",
        "The new teacher",
    )
    for what in ("was looking at the map", "wanted to sell the boat", "kept talking about music")
    for where in (
        "before the concert",
        "in the middle of June",
        "during breakfast",
        "on the way to the harbour",
    )
]

_PLACES = ("none", "kitchen", "bedroom", "washroom")
_SAYINGS = {
    "activate": ("Turn on the {}", "Switch on the {}", "{} on"),
    "deactivate": ("Turn off the {}", "Switch off the {}", "{} off"),
    "increase": ("Turn up the {}", "Increase the {}", "More {} please"),
    "decrease": ("Turn down the {}", "Decrease the {}", "Less {} please"),
    "bring": ("Bring me the {}", "Get me the {}", "Fetch the {}"),
    "change language": ("Change the language to {}", "Set the language to {}", "Switch to {}"),
}
_LANGUAGE_UNSAID = ("Change the language", "Set the language", "Use a different language")


def _sentences(action: str, thing: str, place: str) -> list[str]:
    sayings = _LANGUAGE_UNSAID if thing == "none" else _SAYINGS[action]
    return [saying.format(thing) + ("" if place == "none" else f" in the {place}") for saying in sayings]


_INTENTS = (
    *((action, "lights", place) for action in ("activate", "deactivate") for place in _PLACES),
    *((action, "heat", place) for action in ("increase", "decrease") for place in _PLACES),
    *((action, thing, "none") for action in ("activate", "deactivate") for thing in ("lamp", "music")),
    *((action, "volume", "none") for action in ("increase", "decrease")),
    *(("bring", thing, "none") for thing in ("newspaper", "juice", "socks", "shoes")),
    *(
        ("change language", language, "none")
        for language in ("none", "Chinese", "English", "German", "Korean")
    ),
)
COMMANDS = {intent: _sentences(*intent) for intent in _INTENTS}
"""The 31 intents of Fluent Speech Commands (action, object, location), with three ways to say each."""

STYLES = {
    "neu": (165, 0, 40, 100),
    "hap": (185, 14, 85, 110),
    "exc": (195, 18, 95, 120),
    "ang": (205, 5, 60, 160),
    "sad": (130, -10, 15, 70),
}
"""Emotions: rate, pitch against the speaker's own, range, volume. "exc" counts as "hap", as in S3PRL."""
