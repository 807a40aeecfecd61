"""A small kill campaign: SIGKILL at random moments, the same command again, the bytes of an uninterrupted run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "benchmarks")]

import kills  # noqa: E402

KILLS = 12


def test_killed_commands_end_with_the_same_bytes_when_run_again(synthetic: dict, tmp_path: Path) -> None:
    outcomes = list(kills.campaign(tmp_path, synthetic["ic"], KILLS, seed=1))
    assert [outcome for outcome in outcomes if outcome.wrong] == []
    assert len(outcomes) == KILLS
    assert sum(outcome.killed for outcome in outcomes) >= KILLS // 2


def test_a_campaign_notices_what_is_lost_left_or_changed(tmp_path: Path) -> None:
    """A second run that does not mend: the command fails, and its files are somebody else's."""
    output = tmp_path / "codes"
    command = kills.Command(
        "codes", ["codes", "none.wav", "-u", "mfcc_vq", "--output", str(output / "a.npz")], output
    )
    command.prepare()
    (output / ".c.npz.1.part").write_text("half")
    (output / "b.npz").write_text("other")
    expected = {"a.npz": "0", "b.npz": "0"}
    outcome = kills.kill_once(command, expected, 0, tmp_path)
    for wrong in (
        "the second run ends with 2",
        "a.npz is missing",
        ".c.npz.1.part is left over",
        "b.npz differs",
    ):
        assert wrong in outcome.wrong
