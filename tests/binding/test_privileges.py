# SPDX-License-Identifier: GPL-2.0-or-later
"""Becoming an ordinary user, in a process of its own; what the daemon does with it is in test_daemon.py."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from typing import Any

import pytest

_HEAD = """
import json, os, pwd, socket, sys, threading
from nflowlevel.binding.privileges import Worker, confine, drop_to

def state():
    text = open("/proc/thread-self/status").read()
    return dict(line.split(":\\t", 1) for line in text.splitlines() if ":\\t" in line)

def tried(action):
    try:
        action()
        return ""
    except OSError as error:
        return type(error).__name__

"""


def in_a_process(body: str, **popen: Any) -> Any:
    """Run Python in a process of its own and return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + body], capture_output=True, text=True, timeout=60, check=False, **popen
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")


def test_ids_groups_and_capabilities() -> None:
    state = in_a_process('drop_to(pwd.getpwnam("nobody")); print(json.dumps(state()))', extra_groups=[0, 4])
    user = pwd.getpwnam("nobody")
    assert state["Uid"].split() == [str(user.pw_uid)] * 4
    assert state["Gid"].split() == [str(user.pw_gid)] * 4
    assert [int(gid) for gid in state["Groups"].split()] == os.getgrouplist("nobody", user.pw_gid)
    assert {name: int(state[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {
        "CapEff": 1 << 12, "CapPrm": 1 << 12, "CapInh": 0, "CapAmb": 0,
    }  # fmt: skip


def test_there_is_no_way_back() -> None:
    found = in_a_process(
        """
drop_to(pwd.getpwnam("nobody"))
print(json.dumps([tried(lambda: os.setuid(0)), tried(lambda: os.setgid(0)), tried(lambda: os.setgroups([0])),
                  tried(lambda: open("/etc/shadow")), tried(lambda: os.chown("/tmp", 0, 0))]))
"""
    )
    assert found == ["PermissionError"] * 5


def test_what_the_capability_is_kept_for_works() -> None:
    """SO_RCVBUFFORCE (33) past what everybody may ask for."""
    granted = in_a_process(
        """
drop_to(pwd.getpwnam("nobody"))
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
netlink.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
print(json.dumps(netlink.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)))
"""
    )
    assert granted == 128 << 20


def test_other_threads_keep_nothing() -> None:
    found = in_a_process(
        """
go, answer = threading.Event(), []
thread = threading.Thread(target=lambda: (go.wait(), answer.append(state())))
thread.start()
drop_to(pwd.getpwnam("nobody"))
go.set()
thread.join()
print(json.dumps(answer[0]))
"""
    )
    assert found["Uid"].split()[1] == str(pwd.getpwnam("nobody").pw_uid)
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0


def test_who_is_not_root_is_told_what_to_do() -> None:
    text = in_a_process(
        """
from nflowlevel.errors import KernelError
os.setresuid(65534, 65534, 65534)
try:
    drop_to(pwd.getpwnam("daemon"))
except KernelError as error:
    print(json.dumps([str(error), error.errno]))
"""
    )
    assert text == ["become user daemon: Operation not permitted — start as root, or as that user", 1]


def test_no_program_can_gain_privileges() -> None:
    """Not in the thread that calls, not in one that it starts before it becomes another user, nor in a child."""
    found = in_a_process(
        """
import subprocess
user = pwd.getpwnam("nobody")
confine(user)
go, answer = threading.Event(), []
thread = threading.Thread(target=lambda: (go.wait(), answer.append(state())))
thread.start()
drop_to(user)
go.set()
thread.join()
child = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
child = dict(line.split(":\\t", 1) for line in child.splitlines() if ":\\t" in line)
print(json.dumps([state(), answer[0], child]))
"""
    )
    for each in found:
        assert each["NoNewPrivs"] == "1"
        assert int(each["CapBnd"], 16) == 0
    assert [int(each["CapEff"], 16) for each in found] == [1 << 12, 0, 0]


def test_a_worker_that_starts_later_keeps_nothing() -> None:
    found = in_a_process(
        """
drop_to(pwd.getpwnam("nobody"))
answer = []
for kind in (lambda act: threading.Thread(target=act), Worker):
    thread = kind(lambda: answer.append(state()))
    thread.start()
    thread.join()
print(json.dumps(answer))
"""
    )
    ordinary, worker = (int(each["CapEff"], 16) | int(each["CapPrm"], 16) for each in found)
    assert (ordinary, worker) == (1 << 12, 0)


def test_a_worker_of_root_may_do_what_root_may() -> None:
    found = in_a_process(
        """
answer = []
thread = Worker(lambda word: answer.append((word, state())), "name", ("word",))
thread.start()
thread.join()
print(json.dumps([thread.name, thread.daemon, *answer[0]]))
"""
    )
    assert found[:3] == ["name", True, "word"]
    assert int(found[3]["CapEff"], 16) != 0


def test_more_is_kept_until_the_start_is_over() -> None:
    found = in_a_process(
        """
from nflowlevel.binding.privileges import AT_START, FOR_GOOD, keep
drop_to(pwd.getpwnam("nobody"), AT_START)
before = state()
keep(FOR_GOOD)
print(json.dumps([before, state(), tried(lambda: keep(AT_START))]))
"""
    )
    before, after, again = found
    assert int(before["CapEff"], 16) == int(before["CapPrm"], 16) == 1 << 12 | 1 << 10
    assert int(after["CapEff"], 16) == int(after["CapPrm"], 16) == 1 << 12
    assert again == "PermissionError"


def test_acting_as_a_user_for_a_while() -> None:
    found = in_a_process(
        """
from nflowlevel.binding.privileges import acting_as
user = pwd.getpwnam("nobody")
before = state()
with acting_as(user):
    inside = state()
    refused = tried(lambda: open("/etc/shadow"))
try:
    with acting_as(user):
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
after = state()
os.setresuid(1, 1, 1)
with acting_as(user):
    other = os.geteuid()
print(json.dumps([before, inside, after, refused, other]))
""",
        extra_groups=[0, 4],
    )
    before, inside, after, refused, other = found
    user = pwd.getpwnam("nobody")
    assert inside["Uid"].split()[3] == str(user.pw_uid), "who asks the file system"
    assert inside["Gid"].split()[3] == str(user.pw_gid)
    assert [int(gid) for gid in inside["Groups"].split()] == os.getgrouplist("nobody", user.pw_gid)
    assert int(inside["CapEff"], 16) == 0
    assert refused == "PermissionError"
    for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm"):
        assert after[name] == before[name]
    assert other == 1, "who is not root stays"
