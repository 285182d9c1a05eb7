# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor speaks of prefilters only where that matters."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nflowlevel.binding import bpf
from nflowlevel.binding import bpffs as bpffs_of_program
from nflowlevel.doctor import prefilters
from nflowlevel.plugin.contract import Finding
from nflowlevel.prefilter import generation, pins
from nflowlevel.prefilter.prefilter import Prefilter
from tests.fix_netns import Netns
from tests.fix_nobody import run_as_nobody
from tests.fix_prefilter import ask, load, needs_bpf
from tests.fix_program import bpffs

__all__ = ["bpffs"]

pytestmark = [pytest.mark.kernel, needs_bpf]


def check(netns: Netns, bpffs: Path, *configured: str) -> list[Finding]:
    return list(prefilters.check(netns.name, configured, bpffs))


# -- findings ---------------------------------------------------------------------------------------------------------


def test_nothing_to_say(netns: Netns, bpffs: Path) -> None:
    assert check(netns, bpffs) == []
    load(bpffs, on_exit="keep")
    load(bpffs, "unused")
    ask(netns, f"{bpffs}/nflowlevel/ssh/prog")
    assert check(netns, bpffs) == check(netns, bpffs, "ssh") == []


@pytest.mark.parametrize("variant", ["legacy", "nft"])
def test_empty_and_asked(netns: Netns, bpffs: Path, variant: str) -> None:
    load(bpffs)
    for _ in range(3):
        ask(netns, f"{bpffs}/nflowlevel/ssh/prog", variant)
    (found,) = check(netns, bpffs)
    suffix = "-legacy" if variant == "legacy" else ""
    assert found.status == "problem"
    assert found.text == (
        "prefilter ssh is empty, its process has ended: no packet matches, "
        f"but netns {netns.name}: iptables{suffix} -t filter INPUT rule 1 and 2 more asks it"
    )
    assert "on_exit=keep" in found.remedy
    with Prefilter.take("ssh", bpffs=bpffs):
        assert check(netns, bpffs) == []


def test_another_layout(netns: Netns, bpffs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(bpffs, on_exit="keep")
    layout = pins.LAYOUT
    monkeypatch.setattr(pins, "LAYOUT", 99)
    (found,) = check(netns, bpffs)
    assert (found.status, found.text) == (
        "problem",
        f"prefilter 'ssh' is pinned with layout {layout}, and this version has layout 99",
    )
    assert "nflowlevel prefilter remove ssh" in found.remedy


@pytest.mark.parametrize("variant", ["legacy", "nft"])
def test_a_rule_whose_pin_is_gone(netns: Netns, bpffs: Path, variant: str) -> None:
    load(bpffs, on_exit="keep")
    path = f"{bpffs}/nflowlevel/ssh/prog"
    ask(netns, path, variant)
    Prefilter("ssh", bpffs=bpffs).remove()
    (found,) = check(netns, bpffs)
    assert found.status == "problem"
    assert f"filter INPUT rule 1 names {path}, where nothing is pinned: its table cannot be restored" in found.text
    assert found.remedy.startswith("nflowlevel prefilter load ssh")
    # It is as it says.
    saved = netns.run(f"iptables-{variant}-save").stdout
    assert netns.run(f"iptables-{variant}-restore", input=saved, check=False).returncode
    changed = netns.run(f"iptables-{variant}", "-w", "60", "-A", "OUTPUT", check=False)
    assert (changed.returncode != 0) is (variant == "legacy")
    load(bpffs, on_exit="keep")
    netns.run(f"iptables-{variant}", "-w", "60", "-A", "OUTPUT")
    assert check(netns, bpffs) == []


def test_where_no_bpf_file_system_shows_it(netns: Netns, bpffs: Path) -> None:
    load(bpffs, on_exit="keep")
    ask(netns, f"{bpffs}/nflowlevel/ssh/prog")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", bpffs], check=True)
    try:
        (found,) = check(netns, bpffs)
        assert (found.status, "shows here whether that is pinned" in found.text) == ("hint", True)
        problem, *_ = check(netns, bpffs, "ssh")
        assert problem == Finding(
            "problem", f"cannot pin prefilters: no BPF file system at {bpffs}", "nflowlevel prefilter mount"
        )
    finally:
        subprocess.run(["umount", bpffs], check=True)


def test_configured_and_not_loaded(netns: Netns, bpffs: Path) -> None:
    load(bpffs, on_exit="keep")
    assert check(netns, bpffs, "web", "ssh") == [
        Finding("hint", "prefilter web is not loaded", "the daemon loads it when it starts")
    ]


def test_within_ip_netns_exec_it_says_where_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpffs_of_program, "hiding_netns", lambda _: "blue")
    found = next(prefilters.check(None, ["ssh"], tmp_path))
    assert found == Finding(
        "hint",
        "cannot see what is pinned: `ip netns exec blue` hides it",
        "ask outside of it: nflowlevel doctor --netns blue",
    )


def test_what_is_missing_matters_only_where_there_is_one(
    netns: Netns, bpffs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpf, "obstacle", lambda: "CAP_BPF is missing")
    monkeypatch.setattr(bpf, "jit_is_on", lambda: False)
    monkeypatch.setattr(generation, "OBJECT", Path("/nowhere/prefilter.bpf.o"))
    assert check(netns, bpffs) == []
    found = [(each.status, each.text.partition(" (no ")[0], each.remedy) for each in check(netns, bpffs, "ssh")]
    assert found[:2] == [
        ("hint", "cannot load prefilters: CAP_BPF is missing", "run as root, or with CAP_BPF"),
        ("problem", "cannot load prefilters: an installation made without clang", found[1][2]),
    ]
    assert "clang" in found[1][2]
    assert found[2][0] == "hint"
    assert found[2][1].startswith("prefilters are slower than they could be: the JIT is off")
    assert "bpf_jit_enable=1" in found[2][2]


def test_who_may_not_look(bpffs: Path) -> None:
    (bpffs / "nflowlevel").mkdir(mode=0o700)

    def configured(*names: str) -> int:
        print([finding.text for finding in prefilters.check(None, names, bpffs)])
        return 0

    assert run_as_nobody(configured) == (0, "[]\n")
    status, output = run_as_nobody(lambda: configured("ssh"))
    assert (status, output) == (0, f"['cannot see what is pinned below {bpffs}']\n")
