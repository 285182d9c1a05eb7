# SPDX-License-Identifier: GPL-2.0-or-later
"""Community IDs: the values that the public specification gives, and what holds for all of them."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.records.communityid import community_id, of_texts

_A4, _B4 = "1.2.3.4", "5.6.7.8"
_A6, _B6 = "fe80:1:203:405:607:809:a0b:c0d", "fe80:1011:1213:1415:1617:1819:1a1b:1c1d"
_N1, _N2 = "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea"
_G1 = "2001:470:e5bf:dead:4957:2174:e82c:4887"
_P1 = "3ffe:507:0:1:200:86ff:fe05:80da"

#: Protocol, addresses, ports or type and code; IDs with the seeds 0 and 1: of the specification.
PUBLISHED = [
    (6, _A4, _B4, 1122, 3344, "wCb3OG7yAFWelaUydu0D+125CLM=", "HhA1B+6CoLbiKPEs5nhNYN4XWfk="),
    (6, _B4, _A4, 3344, 1122, "wCb3OG7yAFWelaUydu0D+125CLM=", "HhA1B+6CoLbiKPEs5nhNYN4XWfk="),
    (17, _A4, _B4, 1122, 3344, "0Mu9InQx6z4ZiCZM/7HXi2WMhOg=", "OShq+iKDAMVouh/4bMxB9Sz4amw="),
    (17, _B4, _A4, 3344, 1122, "0Mu9InQx6z4ZiCZM/7HXi2WMhOg=", "OShq+iKDAMVouh/4bMxB9Sz4amw="),
    (132, _A4, _B4, 1122, 3344, "EKt4MsxuyaE6mL+hmrEkQ9csDD8=", "uitchpn5MMGAQKBJh7bIr/bAr7s="),
    (132, _B4, _A4, 3344, 1122, "EKt4MsxuyaE6mL+hmrEkQ9csDD8=", "uitchpn5MMGAQKBJh7bIr/bAr7s="),
    (1, _A4, _B4, 8, 0, "crodRHL2FEsHjbv3UkRrfbs4bZ0=", "9pr4ZGTICiuZoIh90RRYE2RyXpU="),
    (1, _B4, _A4, 0, 0, "crodRHL2FEsHjbv3UkRrfbs4bZ0=", "9pr4ZGTICiuZoIh90RRYE2RyXpU="),
    (1, _A4, _B4, 11, 0, "f/YiSyWqczrTgfUCZlBUnvHRcPk=", "1DD7cWGC/Yg91YGsQeni8du3pIA="),
    (58, _A6, _B6, 128, 0, "0bf7hyMJUwt3fMED7z8LIfRpBeo=", "IO27GQzPuCtNnwFvjWALMHu5tJE="),
    (58, _B6, _A6, 129, 0, "0bf7hyMJUwt3fMED7z8LIfRpBeo=", "IO27GQzPuCtNnwFvjWALMHu5tJE="),
    (58, _A6, _B6, 146, 0, "fYC8+pz24E+EhANP1EZhpX0Dw10=", "Cv4IKJe56BNkF0MBW2YxQ3Nwc3s="),
    (46, _A4, _B4, 0, 0, "ikv3kmf89luf73WPz1jOs49S768=", "/buhqeOmaRCopOZFy9HnoJd5XW8="),
    (46, _B4, _A4, 0, 0, "ikv3kmf89luf73WPz1jOs49S768=", "/buhqeOmaRCopOZFy9HnoJd5XW8="),
    (46, _A6, _B6, 0, 0, "wQ/2mwrnXP4lmJcHdGL5ePjR+e0=", "j6EyyfBzL4vWKHFXgUqb5Az3OxM="),
    (46, _B6, _A6, 0, 0, "wQ/2mwrnXP4lmJcHdGL5ePjR+e0=", "j6EyyfBzL4vWKHFXgUqb5Az3OxM="),
    (58, _N1, _N2, 135, 0, "dGHyGvjMfljg6Bppwm3bg0LO8TY=", "kHa1FhMYIT6Ym2Vm2AOtoOARDzY="),
    (58, _N2, _N1, 136, 0, "dGHyGvjMfljg6Bppwm3bg0LO8TY=", "kHa1FhMYIT6Ym2Vm2AOtoOARDzY="),
    (58, _N2, _N1, 135, 0, "zavyT/cezQr1fmImYCwYnMXbgck=", "2hSqmsDZ2kdcY9kbiUzOEBic0iM="),
    (58, _N1, _N2, 136, 0, "zavyT/cezQr1fmImYCwYnMXbgck=", "2hSqmsDZ2kdcY9kbiUzOEBic0iM="),
    (58, _N1, "ff02::2", 133, 0, "hO+sN4H+MG5MY/8hIrXPqc4ZQz0=", "L7Ka0ZMYu+J3bL4ulW2PrqyXNo8="),
    (58, _N2, "ff02::1", 134, 0, "pkvHqCL88/tg1k4cPigmZXUtL00=", "K/ee5UCqAMAQXDorP5nSa2CGLjc="),
    (58, "3ffe:501:1800:2345::2", _P1, 3, 0, "2ObVBgIn28oZvibYZhZMBgh7WdQ=", "lVEtCZpYu84Xqaa++3lXFyuu2n4="),
    (58, "3ffe:501:410:0:2c0:dfff:fe47:33e", _P1, 1, 4, "hLZd0XGWojozrvxqE0dWB1iM6R0=", "W8MHwXpWzpoSTD+cGcaJr4u0ys8="),
    (1, "192.168.0.89", "192.168.0.1", 8, 0, "X0snYXpgwiv9TZtqg64sgzUn6Dk=", "03g6IloqVBdcZlPyX8r0hgoE7kA="),
    (6, "128.232.110.120", "66.35.250.204", 34855, 80, "LQU9qZlK+B5F3KDmev6m5PMibrg=", "3V71V58M3Ksw/yuFALMcW0LAHvc="),
    (6, _G1, "2607:f8b0:400c:c03::1a", 63943, 25, "/qFaeAR+gFe1KYjMzVDsMv+wgU4=", "eJYTW6AOzFLlSUoESovMjnu7rMw="),
    (132, "192.168.170.8", "192.168.170.56", 7, 7, "MP2EtRCAUIZvTw6MxJHLV7N7JDs=", "5w3ZRjeKBzqT3zsaEECDGjUbYeg="),
    (46, "10.1.12.2", "10.1.12.1", 0, 0, "KHlLkgoJW7ifUTyTSgyVfkFHzKw=", "rYir8gphR31noO9iDRQmF/BteEI="),
]  # fmt: skip

_ports = st.integers(0, 0xFFFF)
_addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize(("protocol", "src", "dest", "first", "second", "plain", "seeded"), PUBLISHED)
def test_the_values_of_the_specification(
    protocol: int, src: str, dest: str, first: int, second: int, plain: str, seeded: str
) -> None:
    assert of_texts(protocol, src, dest, first, second) == "1:" + plain
    assert of_texts(protocol, src, dest, first, second, seed=1) == "1:" + seeded


@given(st.data(), st.sampled_from((6, 17, 132)), _addresses, _ports, _ports)
def test_both_directions_share_an_id(data: st.DataObject, protocol: int, src: bytes, first: int, second: int) -> None:
    dest = data.draw(st.binary(min_size=len(src), max_size=len(src)) | st.just(src))
    there = community_id(protocol, src, dest, first, second)
    assert there == community_id(protocol, dest, src, second, first)
    if src != dest and first != second:
        assert there != community_id(protocol, src, dest, second, first)
    assert there != community_id(protocol, src, dest, first, second, seed=1)


@given(st.integers(0, 255).filter(lambda n: n not in (1, 6, 17, 58, 132)), _ports, _ports)
def test_ports_of_other_protocols_do_not_count(protocol: int, first: int, second: int) -> None:
    assert of_texts(protocol, _B4, _A4, first, second) == of_texts(protocol, _A4, _B4)


def test_texts_are_read_as_addresses() -> None:
    assert of_texts(17, "::1", "0:0::2", 1, 2) == community_id(
        17, socket.inet_pton(socket.AF_INET6, "::1"), socket.inet_pton(socket.AF_INET6, "::2"), 1, 2
    )


@pytest.mark.parametrize(("src", "dest"), [("1.2.3.4", "::1"), ("1.2.3", "1.2.3.4"), ("", ""), ("host", "host")])
def test_what_has_no_id(src: str, dest: str) -> None:
    with pytest.raises(ValueError, match=r"^community_id: "):
        of_texts(6, src, dest, 1, 2)


def test_wrong_numbers_are_refused() -> None:
    for wrong in ((256, 0, 0, 0), (6, 65536, 0, 0), (6, 0, -1, 0), (6, 0, 0, 65536)):
        protocol, first, second, seed = wrong
        with pytest.raises(OverflowError):
            community_id(protocol, b"\1\2\3\4", b"\5\6\7\x08", first, second, seed)
