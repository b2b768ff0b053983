"""Virtual hosts and routes as the control side names them, compiled. How they are asked stands in http_choice.pyx."""
cimport cython
from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from eastgate.fastpath.match.http_choice cimport (
    HEADER_CONTAINS, HEADER_EXACT, HEADER_PREFIX, HEADER_PRESENT, HEADER_SUFFIX, HEADER_UNKNOWN, HTTP_FOUND, KIND_COUNT,
    NO_HOST, PATH_ANY, PATH_EXACT, PATH_NEVER, PATH_PREFIX, PATH_SEPARATED, PATH_UNKNOWN, CompiledHttpRoutes, Domain,
    Domains, Header, Host, Rule, Target, Text, choose_http_route,
)
from eastgate.fastpath.match.http_head cimport (
    AUTHORITY_CAPACITY, HTTP_2, HTTP_COMPLETE, HttpHead, HttpStatus, read_http_head,
)

from typing import NamedTuple

cdef tuple DOMAIN_KINDS = ("exact", "suffix", "prefix")
cdef dict PATH_KINDS = {
    "any": PATH_ANY, "prefix": PATH_PREFIX, "exact": PATH_EXACT, "separated": PATH_SEPARATED, "never": PATH_NEVER,
    "unknown": PATH_UNKNOWN,
}
cdef dict HEADER_KINDS = {
    "exact": HEADER_EXACT, "prefix": HEADER_PREFIX, "suffix": HEADER_SUFFIX, "contains": HEADER_CONTAINS,
    "present": HEADER_PRESENT, "unknown": HEADER_UNKNOWN,
}
cdef tuple CHOICES = ("found", "more", "nobody", "unknown", "closed")


class ChosenRoute(NamedTuple):
    """What becomes of a request: `found`, `more`, `nobody`, `unknown` or `closed`; of the first its cluster slot."""

    choice: str
    slot: int = -1


@cython.final
@cython.internal
@cython.auto_pickle(False)
cdef class Texts:
    """Texts one behind the other."""

    cdef bytearray all

    def __init__(self):
        self.all = bytearray()

    cdef int add(self, Text* text, object content) except -1:
        cdef bytes encoded = content.encode("utf-8", "surrogatepass")
        text.at = <uint32_t>len(self.all)
        text.length = <uint32_t>len(encoded)
        self.all += encoded
        if len(self.all) > 1 << 28:
            raise ValueError("the names of HTTP routes do not fit into 256 MiB")
        return 0


cdef void* allocate(size_t count, size_t size) except NULL:
    cdef void* block = calloc(count if count else 1, size)
    if block == NULL:
        raise MemoryError
    return block


cdef tuple kind_of(str domain):
    """(kind of a domain, its text without the star)."""
    if domain.startswith("*"):
        return "suffix", domain.removeprefix("*")
    return ("prefix", domain.removesuffix("*")) if domain.endswith("*") else ("exact", domain)


cdef int write_domains(CompiledHttpRoutes* routes, object hosts, Texts texts) except -1:
    found = {kind: {} for kind in DOMAIN_KINDS}
    routes.any_host = <uint32_t>NO_HOST
    for number, host in enumerate(hosts):
        for domain in host.domains:
            kind, text = kind_of(domain.lower())
            if text.encode() in found[kind]:
                raise ValueError(f"domain {domain} stands in two virtual hosts")
            found[kind][text.encode()] = number
    if b"" in found["suffix"]:
        routes.any_host = found["suffix"].pop(b"")
    for index, kind in enumerate(DOMAIN_KINDS):
        write_kind(&routes.domains[<uint32_t>index], found[kind], texts)
    return 0


cdef int write_kind(Domains* domains, dict found, Texts texts) except -1:
    cdef uint32_t place
    domains.items = <Domain*>allocate(len(found), sizeof(Domain))
    domains.count = <uint32_t>len(found)
    for place, text in enumerate(sorted(found, key=lambda one: (len(one), one))):
        texts.add(&domains.items[place].text, text.decode())
        domains.items[place].host = found[text]
    return 0


cdef int write_targets(CompiledHttpRoutes* routes, Rule* rule, object targets, uint32_t at) except -1:
    total = 0
    rule.first_target = at
    rule.target_count = <uint32_t>len(targets)
    for slot, weight in targets:
        if weight <= 0 or not 0 <= slot <= UINT32_MAX:
            raise ValueError(f"cluster slot {slot} with weight {weight} is no target")
        total += weight
        if total > UINT32_MAX:
            raise ValueError("weights of a route sum past 4294967295")
        routes.targets[at].slot = slot
        routes.targets[at].upper = total
        at += 1
    return 0


cdef int write_headers(CompiledHttpRoutes* routes, Rule* rule, object headers, uint32_t at, Texts texts) except -1:
    cdef Header* written
    rule.first_header = at
    rule.header_count = <uint32_t>len(headers)
    for header in headers:
        written = &routes.headers[at]
        texts.add(&written.name, header.name)
        texts.add(&written.text, header.text.lower() if header.ignore_case else header.text)
        written.kind = HEADER_KINDS[header.kind]
        written.ignore_case = bool(header.ignore_case)
        written.inverted = bool(header.inverted)
        written.missing_is_empty = bool(header.missing_is_empty)
        at += 1
    return 0


cdef int write_rules(CompiledHttpRoutes* routes, object hosts, Texts texts) except -1:
    cdef uint32_t number = 0
    cdef uint32_t targets = 0
    cdef uint32_t headers = 0
    cdef uint32_t place
    cdef Rule* rule
    for place, host in enumerate(hosts):
        routes.hosts[place].first_rule = number
        routes.hosts[place].rule_count = <uint32_t>len(host.routes)
        routes.hosts[place].is_closed = bool(host.is_closed)
        for route in host.routes:
            rule = &routes.rules[number]
            rule.kind = PATH_KINDS[route.path_kind]
            rule.ignore_case = bool(route.ignore_case)
            rule.is_known = bool(route.is_known)
            texts.add(&rule.path, route.path.lower() if route.ignore_case else route.path)
            write_headers(routes, rule, route.headers, headers, texts)
            write_targets(routes, rule, route.targets, targets)
            headers += <uint32_t>len(route.headers)
            targets += <uint32_t>len(route.targets)
            number += 1
    return 0


@cython.final
cdef class HttpRoutes:
    """Virtual hosts and routes, compiled; immutable."""

    def __init__(self):
        raise TypeError("use HttpRoutes.compile")

    def __dealloc__(self):
        cdef int kind
        if self.compiled == NULL:
            return
        for kind in range(KIND_COUNT):
            free(self.compiled.domains[kind].items)
        free(self.compiled.texts)
        free(self.compiled.hosts)
        free(self.compiled.rules)
        free(self.compiled.headers)
        free(self.compiled.targets)
        free(self.compiled)

    def __reduce__(self):
        raise TypeError("HttpRoutes cannot be pickled")

    @staticmethod
    def compile(spec):
        """Raises ValueError for two equal domains and for weights that are not positive or sum past 2^32-1."""
        cdef HttpRoutes made = HttpRoutes.__new__(HttpRoutes)
        cdef Texts texts = Texts()
        cdef CompiledHttpRoutes* routes = <CompiledHttpRoutes*>allocate(1, sizeof(CompiledHttpRoutes))
        cdef bytes packed
        made.compiled = routes
        rules = [route for host in spec.hosts for route in host.routes]
        routes.hosts = <Host*>allocate(len(spec.hosts), sizeof(Host))
        routes.rules = <Rule*>allocate(len(rules), sizeof(Rule))
        routes.headers = <Header*>allocate(sum(len(one.headers) for one in rules), sizeof(Header))
        routes.targets = <Target*>allocate(sum(len(one.targets) for one in rules), sizeof(Target))
        routes.target_count = <uint32_t>sum(len(one.targets) for one in rules)
        routes.ignores_port = bool(spec.ignores_port)
        routes.normalizes_path = bool(spec.normalizes_path)
        write_domains(routes, spec.hosts, texts)
        write_rules(routes, spec.hosts, texts)
        routes.texts = <uint8_t*>allocate(len(texts.all), 1)
        packed = bytes(texts.all)
        memcpy(routes.texts, <const char*>packed, len(packed))
        return made

    def choose(self, bytes data not None, draw=0):
        """Of a first request of HTTP/1, whose head up to its host is complete."""
        cdef HttpHead head
        cdef uint32_t slot = 0
        cdef HttpStatus status = read_http_head(<const uint8_t*><const char*>data, len(data), &head)
        if status != HTTP_COMPLETE:
            raise ValueError("no complete head")
        choice = choose_http_route(
            self.compiled, <const uint8_t*><const char*>data, len(data), &head, draw, &slot
        )
        return ChosenRoute(CHOICES[<int>choice], slot if choice == HTTP_FOUND else -1)

    def choose_authority(self, str authority not None, draw=0):
        """Of a connection of HTTP/2 that wants to go to this address."""
        cdef bytes name = authority.encode()
        cdef HttpHead head
        cdef uint32_t slot = 0
        if len(name) >= AUTHORITY_CAPACITY:
            raise ValueError(f"authority {authority} is too long")
        memset(&head, 0, sizeof(head))
        head.protocol = HTTP_2
        head.authority_length = <uint32_t>len(name)
        memcpy(head.authority, <const char*>name, len(name))
        choice = choose_http_route(self.compiled, b"", 0, &head, draw, &slot)
        return ChosenRoute(CHOICES[<int>choice], slot if choice == HTTP_FOUND else -1)
