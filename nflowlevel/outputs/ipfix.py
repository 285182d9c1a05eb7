# SPDX-License-Identifier: GPL-2.0-or-later
"""IPFIX: flows to a collector, as messages of RFC 7011 over TCP, UDP or TLS. Packets and accounting objects, too.

A flow has its addresses, ports or ICMP type and code, bytes and packets of both directions (64 bits; the reply's by RFC
5103), beginning and end in milliseconds, mark, end reason and conntrack's number of it. A flow that was translated also
has what its addresses and ports became, and `natEvent` (RFC 8158). docs/flows.md lists the elements. IPv4 and IPv6,
with ports and without, translated or not are records of different templates. Where the kernel does not count
(nf_conntrack_acct=0), a record has no counters, rather than zeros. A flow whose beginning is not known
(nf_conntrack_timestamp=0 and no event NEW) begins where it ends.

`format=ulogd2` sends the ten fields of ulogd2 in its template 256: both directions added up in 32 bits (more than that
is 4294967295), times in whole seconds. IPv6 flows, which ulogd2 cannot send, get template 257.

A template is sent right before the first record that needs it, on each new TCP connection again, and over UDP each
`template_interval` seconds or `template_messages` messages. A message is sent when it is full, and at the latest within
a second. Its sequence number counts the records before it.

Records wait as rows of the SQL outputs do: in memory, then in the spool on disk (`when_full`), also across restarts, so
a collector that is away loses nothing. Over TCP, `written` records have been acknowledged by the collector's kernel.
When a collector resets the connection, as one does that is killed before it has read everything, the records of the
last two seconds are sent again (`resent`; some may arrive twice), and what else it may not have read is counted as
`maybe_lost`. Over UDP a collector that is away is noticed if its host says so (an ICMP error); apart from that nobody
knows what arrives, so all records are counted as `unconfirmed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from nflowlevel.delivery.exporter import Announce, BadRowsError, Exporter, Transport
from nflowlevel.options import CLAMPED, MOST_SECS, PortOrNone
from nflowlevel.plugin.contract import Finding
from nflowlevel.plugin.spooled import SpooledOutput
from nflowlevel.records.flow import FLOW
from nflowlevel.records.ipfix import (
    Form,
    encode_named,
    flow_form,
    named_layout,
    packet_form,
    sum_form,
    ulogd2_form,
)
from nflowlevel.records.sums import SUM
from nflowlevel.spool.feed import SpoolStats
from nflowlevel.spool.options import SpoolOptions
from nflowlevel.spool.sink import Refused, Sink, Unavailable
from nflowlevel.stats import counter

if TYPE_CHECKING:
    import ssl

    from nflowlevel.records.batch import Batch
    from nflowlevel.records.keys import Key
    from nflowlevel.records.types import RecordType
    from nflowlevel.spool.rows import Layout, Rows

_PORT, _TLS_PORT = "4739", "4740"
_CONNECT_SECS = 10
#: What fits into the packets of any Ethernet, also within a tunnel; and ulogd2's default.
_MTU, _ULOGD2_MTU = 1400, 512
#: A message holds at least one record and its template.
_LEAST_MTU = {"full": 400, "ulogd2": 128}
#: The longest datagram of IPv4.
_DATAGRAM_MAX = 65507


class IPFIXOptions(SpoolOptions, frozen=True, kw_only=True):
    """Options of IPFIX; `oid` to `send_template` as in ulogd.conf."""

    oid: Annotated[int, Meta(ge=1, le=0xFFFFFFFF, description="Observation domain of all messages.")]
    host: Annotated[str, Meta(min_length=1, description="Name or address of the collector.")]
    port: Annotated[
        PortOrNone, Meta(description=f"Port of the collector; empty: {_PORT}, or {_TLS_PORT} with TLS.")
    ] = ""
    proto: Annotated[Transport, Meta(description="Transport of the messages.")] = "tcp"
    mtu: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description=f"Most bytes of a message; 0: {_MTU}, with format=ulogd2 {_ULOGD2_MTU} as there.",
        ),
    ] = 0
    send_template: Annotated[
        Announce,
        Meta(description="Templates once (and again, see template_interval), in each message (always), or never."),
    ] = "once"
    format: Annotated[
        Literal["full", "ulogd2"], Meta(description="What is sent of flows: everything, or the ten fields of ulogd2.")
    ] = "full"
    template_interval: Annotated[
        int,
        Meta(ge=0, le=MOST_SECS, extra=CLAMPED, description="UDP: seconds until templates are sent again; 0: never."),
    ] = 60
    template_messages: Annotated[
        int, Meta(ge=0, description="UDP: messages until templates are sent again; 0: any number.")
    ] = 4096
    enterprise: Annotated[
        int,
        Meta(
            ge=0,
            le=0xFFFFFFFF,
            description="Number of your enterprise (IANA) for elements that no standard has, such as the zone; 0: they "
            "are not sent.",
        ),
    ] = 0
    nat_event: Annotated[
        bool,
        Meta(
            description="Say natEvent (RFC 8158) of translated flows; pmacct's nfacctd does not count the bytes of "
            "records that have it."
        ),
    ] = True
    tls: Annotated[bool, Meta(description="TLS over TCP; the certificate of the collector must be for `host`.")] = False
    ca: Annotated[
        str, Meta(description="TLS: file of the certificates that the collector's is checked by; empty: the system's.")
    ] = ""
    cert: Annotated[str, Meta(description="TLS: file of our own certificate, for collectors that ask for one.")] = ""
    key: Annotated[str, Meta(description="TLS: file of its private key; empty: it is in the file of `cert`.")] = ""

    def __post_init__(self) -> None:
        """What one option demands of another."""
        if self.tls and self.proto == "udp":
            raise ValueError("tls=yes needs proto=tcp")
        if not self.tls and (self.ca or self.cert or self.key):
            raise ValueError("ca, cert and key are for tls=yes")
        if self.key and not self.cert:
            raise ValueError("key= needs cert=, the certificate that it belongs to")
        if self.format == "ulogd2" and self.enterprise:
            raise ValueError("enterprise= needs format=full: ulogd2 has no further elements")
        if self.mtu and self.mtu < _LEAST_MTU[self.format]:
            least = _LEAST_MTU[self.format]
            raise ValueError(f"mtu={self.mtu}: must be at least {least}, the room of a record and its template")
        if self.proto == "udp" and self.mtu > _DATAGRAM_MAX:
            raise ValueError(f"mtu={self.mtu}: no datagram is longer than {_DATAGRAM_MAX} bytes")


class IPFIXStats(SpoolStats):
    """What became of the records given to IPFIX."""

    unconfirmed = counter("records", "Of the `written` records those sent over UDP: nobody knows whether they arrived.")


class IPFIX(SpooledOutput[IPFIXOptions]):
    """The IPFIX plugin; see the module."""

    name = "IPFIX"
    Options = IPFIXOptions

    def __init__(self, instance: str, options: IPFIXOptions) -> None:
        super().__init__(instance, options)
        self._stats: IPFIXStats = IPFIXStats()
        full = options.format == "full"
        self._flows = flow_form(options.enterprise, nat_event=options.nat_event) if full else ulogd2_form()
        self._packets: dict[RecordType, Form] = {}
        self._sums: dict[bool, Form] = {}
        self._context: ssl.SSLContext | None = None
        self._layouts: set[Layout] = set()
        self._exporter: Exporter | None = None

    @property
    def stats(self) -> IPFIXStats:
        """Records in, taken, waiting, dropped, and of which nobody knows."""
        return self._stats

    def sink(self) -> Sink:
        """Return the collector as a sink, not connected yet."""
        options = self.options
        default = _ULOGD2_MTU if options.format == "ulogd2" else _MTU
        self._exporter = Exporter(
            options.proto,
            options.host,
            self._port,
            domain=options.oid,
            mtu=options.mtu or default,
            announce=options.send_template,
            again_secs=options.template_interval,
            again_messages=options.template_messages,
            secrets=self._secrets if options.tls else None,
            stats=self._stats,
        )
        return _Collector(self._exporter, self._layouts, options.connect_timeout or _CONNECT_SECS, self._stats)

    def close(self, timeout: float = 1.0) -> None:
        """Send what waits, as far as it goes in time, and count what a collector that broke off may not have read."""
        super().close(timeout)
        if self._exporter:
            self._exporter.forsake()

    @property
    def _port(self) -> str:
        return self.options.port or (_TLS_PORT if self.options.tls else _PORT)

    def _secrets(self) -> ssl.SSLContext:
        """Return what TLS needs, read anew: certificates are renewed. Who may not read it any more has what it read."""
        try:
            self._context = self._read_secrets()
        except OSError:
            if self._context is None:
                raise
        return self._context

    def _read_secrets(self) -> ssl.SSLContext:
        import ssl  # loaded only where it is used: the daemon starts faster without it

        options = self.options
        reading = f"ca={options.ca}"
        try:
            context = ssl.create_default_context(cafile=options.ca or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if options.cert:
                reading = f"cert={options.cert}" + (f", key={options.key}" if options.key else "")
                context.load_cert_chain(options.cert, options.key or None)
        except OSError as error:
            raise OSError(error.errno, f"read the certificates of TLS: {reading}: {_reason(error)}") from error
        return context

    def load(self) -> None:
        """Read the certificates, which another user may not be allowed to."""
        if self.options.tls:
            self._secrets()

    def needs(self) -> Iterator[Finding]:
        """Its certificates, and what all need that have a spool."""
        if self.options.tls:
            try:
                self._read_secrets()
            except OSError as error:
                yield Finding("problem", _reason(error), "name files in PEM form that the daemon's user can read")
        yield from super().needs()

    def examine(self) -> Iterator[Finding]:
        """Look whether the collector takes connections."""
        # Late: the daemon examines nothing.
        from nflowlevel.plugin import reach

        yield from self.needs()
        yield from reach.peer(self.options.proto, self.options.host, self._port)

    def agrees(self, one: Key, other: Key) -> bool:
        """Any stacks may end here: each kind of records has its own templates."""
        return True

    def completed(self, batch: Batch) -> Batch:
        """Return the batch: what is sent is in the records."""
        return batch

    def layout_of(self, batch: Batch, wanted: Layout) -> Layout:
        """Return the layout of its rows: each kind of records has its own."""
        form = self._form(batch)
        layout = named_layout(deltas=self._counts_deltas) if form is None else form.layout
        self._layouts.add(layout)
        return layout

    def render(self, batch: Batch, layout: Layout) -> Iterable[tuple[bytes, int]]:
        """Yield the batch's rows."""
        form = self._form(batch)
        return [encode_named(batch)] if form is None else form.encode(batch)

    def _form(self, batch: Batch) -> Form | None:
        """Return the form of the batch's records; None where they are accounting objects that are only columns."""
        type_ = batch.raw.type
        if type_ is None:
            return None
        if type_ is FLOW:
            return self._flows
        if type_ is SUM:
            deltas = self._counts_deltas
            if deltas not in self._sums:
                self._sums[deltas] = sum_form(deltas=deltas)
            return self._sums[deltas]
        if type_ not in self._packets:
            self._packets[type_] = packet_form(type_)
        return self._packets[type_]

    @property
    def _counts_deltas(self) -> bool:
        """Whether a value is what was counted since the last one."""
        return self.input is not None and self.input.deltas


class _Collector(Sink):
    """A collector as the writer uses it. It has no ledger: TCP tells what its kernel has."""

    def __init__(self, exporter: Exporter, made: Set[Layout], connect_secs: float, stats: IPFIXStats) -> None:
        self._exporter, self._connect_secs, self._stats = exporter, connect_secs, stats
        #: Layouts of rows that this process has made.
        self._made = made
        #: No rows have it, as each kind of records has its own.
        self.layout = ()
        #: The last row that went out with a write that failed after it.
        self._gone = 0

    @property
    def shown(self) -> str:
        """Transport, host and port."""
        return self._exporter.shown

    @property
    def into(self) -> str:
        """The collector itself."""
        return self._exporter.shown

    def connect(self) -> None:
        """Connect to the collector."""
        try:
            self._exporter.connect(self._connect_secs)
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"connect to {self.shown}: {_reason(error)}") from error

    def prepare(self) -> None:
        """Nothing to find out: a collector says nothing."""

    def fit(self, rows: Rows) -> Rows:
        """Return the rows: each layout has its own templates. Refused where they are of another output."""
        if rows.layout in self._made:
            return rows
        try:
            self._exporter.check(rows.layout, rows.data)
        except BadRowsError as error:
            raise Refused(f"{error}", "layout") from None
        return rows

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Send the rows, and wait until they are out."""
        rest = rows.after(self._gone)
        if rest:
            self._send(rest)
        if self._exporter.transport == "udp":
            with self._stats.lock:
                self._stats.unconfirmed += rows.count

    def _send(self, rows: Rows) -> None:
        try:
            self._exporter.send(rows.layout, rows.data)
        except BadRowsError as error:
            raise Refused(f"{error}", "layout") from None
        except OSError as error:
            if self._exporter.gone:
                self._gone = rows.first + self._exporter.gone - 1
            raise Unavailable(f"send to {self.shown}: {_reason(error)}") from error

    def describe(self, rows: Rows) -> Sequence[Mapping[str, object]]:
        """Return each row as it is: of what it consists only its layout tells."""
        return [{"row": line.hex(), "layout": list(rows.layout)} for line in rows.data.split(b"\n")[:-1]]

    def abort(self) -> None:
        """Break the connection."""
        self._exporter.abort()

    def close(self) -> None:
        """Close the connection."""
        self._exporter.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
