# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's part of a prefilter without its names: what is made, by whom it may be made, and what is left."""

from __future__ import annotations

import os

import pytest

from nflowlevel.binding import procfs
from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.bpf import BPFMap
from nflowlevel.errors import KernelError
from nflowlevel.prefilter.conditions import PrefilterOptions, options_of
from nflowlevel.prefilter.generation import SHARED, SLOTS, dispatcher, generation, shared_maps
from tests.corpus import by_name
from tests.fix_prefilter import needs_bpf

pytestmark = [pytest.mark.kernel, needs_bpf]

ALL = options_of(
    {
        "ignore": ["10.0.0.0/8", "fd00::/8"],
        "only": ["0.0.0.0/0", "::/0"],
        "ignore_dst": ["192.0.2.0/24"],
        "only_dst": ["0.0.0.0/0", "::/0"],
        "protocols": "tcp,udp",
        "sports": "1-65535",
        "dports": "22",
        "tcp_flags": "syn",
        "sample": 2,
        "rate": 100,
        "global_rate": 1000,
        "first_of_flow": 1,
        "top": True,
    }
)


def test_sizes() -> None:
    maps = shared_maps(options_of({"sources": 100, "flows": 200}))
    assert set(maps) == {*SHARED, SLOTS}
    assert maps["sources"].info.definition.max_entries == 100
    assert maps["flows"].info.definition.max_entries == 200


def test_a_generation_lives_in_its_slot() -> None:
    maps = shared_maps(PrefilterOptions())
    with dispatcher(maps) as program:
        assert program.test_run(by_name("tcp4-syn").wire()) == 0
        with generation(PrefilterOptions(), maps) as loaded:
            maps[SLOTS].update(bytes(4), loaded.fd.to_bytes(4, "little"))
        assert program.test_run(by_name("tcp4-syn").wire()) == 1
        maps[SLOTS].delete(bytes(4))
        assert program.test_run(by_name("tcp4-syn").wire()) == 0


def test_steps_that_are_off_are_no_code() -> None:
    maps = shared_maps(ALL)
    with generation(PrefilterOptions(), maps) as none, generation(ALL, maps) as full:
        assert none.info.jited_bytes < full.info.jited_bytes * 0.8


def test_nothing_is_left_open_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = shared_maps(ALL)
    before = sorted(os.listdir("/proc/self/fd"))
    del maps["flows"]
    with pytest.raises(KeyError), generation(ALL, maps):
        pass
    create = BPFMap.create

    def fail(name: str, definition: object) -> BPFMap:
        if name == "ports_seen":
            raise KernelError("make it", 12)
        return create(name, definition)  # type: ignore[arg-type]

    monkeypatch.setattr(BPFMap, "create", fail)
    with pytest.raises(KernelError):
        shared_maps(ALL)
    maps.clear()
    assert set(os.listdir("/proc/self/fd")) <= set(before)


@pytest.mark.parametrize("capabilities", [("BPF",), ("BPF", "PERFMON"), ("SYS_ADMIN",), ("BPF", "NET_ADMIN")])
def test_the_capabilities_that_are_enough(capabilities: tuple[str, ...]) -> None:
    """All steps are verified, also where the verifier is strict."""
    child = os.fork()
    if not child:
        status = 1
        try:
            keep_only(capabilities)
            maps = shared_maps(ALL)
            with generation(ALL, maps) as program, dispatcher(maps):
                status = 0 if program.test_run(by_name("tcp4-syn").wire()) == 0 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def keep_only(capabilities: tuple[str, ...]) -> None:
    bits = sum(1 << getattr(lib, f"CAP_{name}") for name in capabilities)
    words = [{"effective": word, "permitted": word} for word in (bits & 0xFFFFFFFF, bits >> 32)]
    header = ffi.new("struct __user_cap_header_struct *", {"version": lib._LINUX_CAPABILITY_VERSION_3})
    assert lib.capset(header, ffi.new("struct __user_cap_data_struct[2]", words)) == 0
    assert not procfs.has_capability(lib.CAP_SYS_ADMIN) or "SYS_ADMIN" in capabilities
