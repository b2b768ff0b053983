"""Filter chains -> the words of a route table, level by level; route_nodes.pxd says how they lie.

At each level the chains that are left are grouped by the values that they name there, and each group goes through the
levels below on its own; a level that no chain of a group names is left out. So the table is a decision per level that
matters: one hash look-up and a list of ALPN values for a gateway, whatever its size.

What does not depend on the connection's values is resolved here. Prefixes become disjoint intervals of addresses, each
with the answer of the longest prefix around it. Equal nodes are written once: all of istiod's chains share one list of
ALPN values. 10,000 chains of istiod's shape take 1.4 MB, names included.
"""
cimport cython
from cpython.array cimport array
from libc.stdint cimport uint32_t, uint64_t

from eastgate.fastpath.match.route_nodes cimport (
    DESTINATION_PORT, DESTINATION_PREFIX, EXACT_NAMES, KIND_SHIFT, NAME_LENGTH_BYTES, NOBODY,
    NO_NUMBER, OFFSET_MASK, PLACE_WORDS, PROTOCOL, SERVER_NAME, SOURCE_PORT, SOURCE_TYPE, TRANSPORT,
    hash_name, name_length, name_text,
)

import re
from socket import AF_INET, AF_INET6, inet_ntop

from eastgate.fastpath.match.intervals import intervals
from eastgate.fastpath.reason import Reason

# How many chains, or groups of them, are looked at between two yields.
cdef uint32_t CHAINS_PER_SLICE = 128
cdef uint32_t LOOKS_PER_SLICE = 1024

# A server name is printable ASCII; * only as the whole first label of a longer name.
cdef object SERVER_NAME_TEXT = re.compile(r"(\*\.)?(?!\.)[!-)+-~]+")

# By level, what a chain is taken by that does not name it, and what it is called.
cdef tuple NO_PORT = (0,)
cdef tuple NO_PREFIX = (None,)
cdef tuple NO_TEXT = ("",)
cdef tuple NO_TYPE = ("ANY",)
cdef tuple ANY = (NO_PORT, NO_PREFIX, NO_TEXT, NO_TEXT, NO_TEXT, NO_PREFIX, NO_TYPE, NO_PREFIX, NO_PORT)
cdef tuple LEVELS = (
    "destination port", "destination prefix", "server name", "transport protocol", "ALPN", "direct source prefix",
    "source type", "source prefix", "source port",
)
cdef tuple SOURCE_TYPES = ("ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL")


# ---- criteria

cdef tuple distinct(object values):
    return tuple(dict.fromkeys(values)) if len(values) > 1 else tuple(values)


cdef tuple ports_of(object chain, str field, object ports):
    for port in ports:
        if not 1 <= port <= 65535:
            raise ValueError(f"filter chain {chain.name}: {field} {port} is outside 1..65535")
    return distinct(ports)


cdef tuple prefix_of(object chain, bytes address, length):
    """(bits of an address of its family, bits that count, its first address as a number)."""
    cdef Py_ssize_t bits = 8 * len(address)
    if bits not in (32, 128) or not 0 <= length <= bits:
        raise ValueError(f"filter chain {chain.name}: {length} bits of {bits // 8} bytes are no prefix of an address")
    number = int.from_bytes(address, "big")
    return bits, length, number >> (bits - length) << (bits - length)


cdef tuple prefixes_of(object chain, object prefixes):
    return distinct([prefix_of(chain, address, length) for address, length in prefixes])


cdef str match_name(str name, object chain):
    """Lower-cased server name of a match. Raises ValueError for what Envoy does not load either."""
    if SERVER_NAME_TEXT.fullmatch(name) is None:
        raise ValueError(
            f"filter chain {chain.name}: server name {name!r} is neither an ASCII name nor *. and a suffix"
        )
    if len(name) > 65535:
        raise ValueError(f"filter chain {chain.name}: a server name of {len(name)} bytes is none")
    return name.lower()


cdef tuple protocols_of(object chain):
    for protocol in chain.application_protocols:
        if not 1 <= len(protocol.encode()) <= 255:
            raise ValueError(f"filter chain {chain.name}: ALPN {protocol!r} is not 1 to 255 bytes long")
    return distinct(chain.application_protocols)


cdef tuple criteria_of(object chain):
    """By level, the values that a chain takes. Raises ValueError naming the chain and the field."""
    if not 0 <= chain.destination_port <= 65535:
        raise ValueError(f"filter chain {chain.name}: destination port {chain.destination_port} is outside 0..65535")
    if chain.source_type not in SOURCE_TYPES:
        raise ValueError(f"filter chain {chain.name}: source type {chain.source_type!r} is none of {SOURCE_TYPES}")
    return (
        (chain.destination_port,) if chain.destination_port else NO_PORT,
        prefixes_of(chain, chain.destination_prefixes) if chain.destination_prefixes else NO_PREFIX,
        distinct([match_name(name, chain) for name in chain.server_names]) if chain.server_names else NO_TEXT,
        (chain.transport_protocol,) if chain.transport_protocol else NO_TEXT,
        protocols_of(chain) if chain.application_protocols else NO_TEXT,
        prefixes_of(chain, chain.direct_source_prefixes) if chain.direct_source_prefixes else NO_PREFIX,
        NO_TYPE if chain.source_type == "ANY" else (chain.source_type,),
        prefixes_of(chain, chain.source_prefixes) if chain.source_prefixes else NO_PREFIX,
        ports_of(chain, "source port", chain.source_ports) if chain.source_ports else NO_PORT,
    )


cdef str value_text(object value):
    if isinstance(value, tuple):
        bits, length, number = value
        return f"{inet_ntop(AF_INET if bits == 32 else AF_INET6, number.to_bytes(bits // 8, 'big'))}/{length}"
    return str(value)


cdef str common_text(tuple one, tuple two):
    """What two chains with equal criteria have in common, in words."""
    words = []
    for level in range(len(LEVELS)):
        shared = next((value for value in one[level] if value in two[level]), None)
        if shared is not None and shared not in ANY[level]:
            words.append(f"{LEVELS[level]} {value_text(shared)}")
    return ", ".join(words) or "those that no other chain takes"


# ---- words

@cython.final
@cython.auto_pickle(False)
cdef class RouteBuilder:
    """Collects the chains of one table (`add`), then writes its words (`steps`)."""

    def __init__(self, seed):
        self.seed = seed
        self.chains = []
        self.criteria = []
        self.name_nodes = []
        self.asks_destination = False
        # Offset 0 stands for none.
        self.words = array("I", [0])
        self.nodes = {}
        self.patterns = {}
        self.protocols = {}

    def add(self, chain):
        """Raises ValueError naming the chain and the field whose value is none."""
        self.criteria.append(criteria_of(chain))
        self.chains.append(chain)

    def steps(self):
        """Write all in slices: a generator that returns the reference of the root.

        Raises ValueError, naming the chains, for equal criteria of two, unless one of them refuses: that one is taken.
        """
        return (yield from self.decide_in_slices(DESTINATION_PORT, list(range(len(self.chains)))))

    cdef uint32_t append(self, object values) except 0:
        cdef Py_ssize_t offset = len(self.words)
        if offset + len(values) > OFFSET_MASK:
            raise ValueError("the filter chains of one listener do not fit into 1 GiB")
        self.words.extend(values)
        return <uint32_t>offset

    cdef uint32_t append_bytes(self, bytes data) except 0:
        return self.append(array("I", data + bytes(3 - (len(data) + 3) % 4)))

    cdef uint32_t node(self, uint32_t kind, tuple content) except 0:
        key = (kind, content)
        reference = self.nodes.get(key)
        if reference is None:
            reference = self.nodes[key] = kind << KIND_SHIFT | self.append(content)
        return reference

    cdef uint32_t write_ports(self, uint32_t kind, dict references) except 0:
        fallback = references.pop(0, NOBODY)
        ports = sorted(references)
        return self.node(kind, (len(ports), fallback, *ports, *[references[port] for port in ports]))

    cdef uint32_t write_prefixes(self, uint32_t kind, dict references) except 0:
        fallback = references.pop(None, NOBODY)
        content = []
        counts = []
        for bits in (32, 128):
            prefixes = [(key[1], key[2], answer) for key, answer in references.items() if key[0] == bits]
            starts, answers = intervals(bits, prefixes, fallback)
            counts.append(len(starts))
            content += [start >> shift & 0xFFFFFFFF for start in starts for shift in range(bits - 32, -1, -32)]
            content += answers
        return self.node(kind, (*counts, *content))

    cdef uint32_t protocol(self, str name) except 0:
        if name not in self.protocols:
            encoded = name.encode()
            self.protocols[name] = self.append_bytes(bytes([len(encoded)]) + encoded)
        return self.protocols[name]

    cdef uint32_t write_protocols(self, dict references) except 0:
        numbers = {reference: number for number, reference in enumerate(dict.fromkeys(references.values()))}
        key = tuple([(name, numbers[reference]) for name, reference in references.items()])
        pattern = self.patterns.get(key)
        if pattern is None:
            any_protocol = numbers[references[""]] if "" in references else NO_NUMBER
            header = [len(key) - ("" in references), any_protocol]
            entries = [(self.protocol(name), number) for name, number in key if name]
            pattern = self.patterns[key] = self.append([*header, *[word for entry in entries for word in entry]])
        return self.node(PROTOCOL, (pattern, *numbers))

    cdef uint32_t write_transports(self, dict references):
        fallback = references.get("", NOBODY)
        encrypted, plain = references.get("tls", fallback), references.get("raw_buffer", fallback)
        return encrypted if encrypted == plain else self.node(TRANSPORT, (encrypted, plain))

    cdef uint32_t write_source_types(self, dict references):
        fallback = references.get("ANY", NOBODY)
        return self.node(
            SOURCE_TYPE, (references.get("SAME_IP_OR_LOOPBACK", fallback), references.get("EXTERNAL", fallback))
        )

    cdef uint32_t write_name(self, str name, uint32_t reference) except 0:
        encoded = name.encode()
        offset = self.append((reference,))
        self.append_bytes(len(encoded).to_bytes(NAME_LENGTH_BYTES, "little") + encoded)
        return offset

    cdef tuple write_table(self, list names):
        """The two words of a table of the names at these offsets."""
        cdef uint32_t size = 2
        cdef uint32_t start, at, name
        cdef uint64_t hashed
        cdef uint32_t* words
        cdef uint32_t* places
        if not names:
            return 0, 0
        while 2 * <uint64_t>size < 3 * <uint64_t>len(names):
            size <<= 1
        start = self.append(array("I", bytes(4 * PLACE_WORDS * size)))
        words = <uint32_t*>self.words.data.as_uints
        places = words + start
        for offset in names:
            name = offset
            hashed = hash_name(<const char*>name_text(words, name), name_length(words, name), self.seed)
            at = <uint32_t>hashed & (size - 1)
            while places[PLACE_WORDS * at + 1]:
                at = (at + 1) & (size - 1)
            places[PLACE_WORDS * at] = <uint32_t>(hashed >> 32)
            places[PLACE_WORDS * at + 1] = name
        return start, size - 1

    cdef uint32_t write_names(self, dict names) except 0:
        """A SERVER_NAME node; of all names but "", the offsets of what was written for them."""
        fallback = names.pop("", NOBODY)
        exact = self.write_table([offset for name, offset in names.items() if not name.startswith("*")])
        wildcards = self.write_table([offset for name, offset in names.items() if name.startswith("*")])
        reference = self.node(SERVER_NAME, (*exact, *wildcards, fallback))
        self.name_nodes.append((reference & OFFSET_MASK) + EXACT_NAMES)
        return reference

    cdef uint32_t write(self, uint32_t kind, dict references) except? 0xFFFFFFFF:
        """Node of a level: value -> reference for connections that have it."""
        if kind == DESTINATION_PREFIX or kind == SOURCE_TYPE:
            self.asks_destination = True
        if kind == DESTINATION_PORT or kind == SOURCE_PORT:
            return self.write_ports(kind, references)
        if kind == SERVER_NAME:
            return self.write_names(
                {
                    name: self.write_name(name.removeprefix("*"), reference) if name else reference
                    for name, reference in references.items()
                }
            )
        if kind == TRANSPORT:
            return self.write_transports(references)
        if kind == PROTOCOL:
            return self.write_protocols(references)
        if kind == SOURCE_TYPE:
            return self.write_source_types(references)
        return self.write_prefixes(kind, references)

    cdef uint32_t owner(self, list indexes) except? 0xFFFFFFFF:
        """Which of the chains with equal criteria serves."""
        owner = indexes[0]
        for index in indexes[1:]:
            if self.chains[owner].refusal != Reason.NONE:
                break
            if self.chains[index].refusal == Reason.NONE:
                raise ValueError(
                    f"filter chains {self.chains[owner].name} and {self.chains[index].name} match the same connections"
                    f" ({common_text(self.criteria[owner], self.criteria[index])})"
                )
            # Criteria that are not evaluated may tell the two apart; closed is the safe reading.
            owner = index
        return owner

    cdef uint32_t alone(self, uint32_t kind, uint32_t index) except? 0xFFFFFFFF:
        """What is left to decide, from level `kind` on, where only one chain is left."""
        cdef tuple criteria = self.criteria[index]
        cdef uint32_t reference = index
        cdef uint32_t level
        for level in range(SOURCE_PORT, kind - 1, -1):
            if criteria[level - 1] is not ANY[level - 1]:
                reference = self.write(level, dict.fromkeys(criteria[level - 1], reference))
        return reference

    cdef uint32_t decide(self, uint32_t kind, list indexes) except? 0xFFFFFFFF:
        """Reference for the chains that are left when level `kind` is reached."""
        cdef dict groups = {}
        if len(indexes) == 1:
            return self.alone(kind, indexes[0])
        if kind > SOURCE_PORT:
            return self.owner(indexes)
        for index in indexes:
            for value in self.criteria[index][kind - 1]:
                groups.setdefault(value, []).append(index)
        if len(groups) == 1 and ANY[kind - 1][0] in groups:
            return self.decide(kind + 1, indexes)
        return self.write(kind, {value: self.decide(kind + 1, members) for value, members in groups.items()})

    def decide_in_slices(self, kind, indexes):
        """`decide` as a generator, for the levels at which there may be thousands of groups."""
        if not indexes:
            return NOBODY
        if len(indexes) == 1 or kind > SERVER_NAME:
            return self.decide(kind, indexes)
        groups = {}
        for count, index in enumerate(indexes, 1):
            for value in self.criteria[index][kind - 1]:
                groups.setdefault(value, []).append(index)
            if count % LOOKS_PER_SLICE == 0:
                yield
        if len(groups) == 1 and ANY[kind - 1][0] in groups:
            return (yield from self.decide_in_slices(kind + 1, indexes))
        references = {}
        for value, members in groups.items():
            if len(members) == 1:
                reference = self.alone(kind + 1, members[0])
            else:
                reference = yield from self.decide_in_slices(kind + 1, members)
            if kind == SERVER_NAME and value:
                reference = self.write_name(value.removeprefix("*"), reference)
            references[value] = reference
            self.groups_made += 1
            if self.groups_made % CHAINS_PER_SLICE == 0:
                yield
        return self.write_names(references) if kind == SERVER_NAME else self.write(kind, references)
