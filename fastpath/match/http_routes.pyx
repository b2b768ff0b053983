"""Routes of a first HTTP request, asked as Envoy's router asks them.

Virtual host: the exact domain, else the longest suffix (`*.example.com`, `*-x.example.com`), else the longest prefix
(`example.*`), else `*`; a wildcard stands for one character at least. Then the first route of it whose path and headers
match; there is no way back to another virtual host.

What later requests on the connection ask for is out of reach: it is one stream of bytes to one cluster. Where a route
asks for what is not known (a regular expression, a cookie, a share of requests; a path that Envoy would rewrite before
it looks), nobody goes on by guess: the connection is refused.

Of HTTP/2 nothing but the address is known: its client may wait for our SETTINGS before it says more. It is routed by
the virtual host that holds the address, and there by the first route for all paths and headers.
"""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy, memset

from eastgate.fastpath.match.http_head cimport (
    AUTHORITY_CAPACITY, HTTP_2, HTTP_COMPLETE, HttpHead, HttpStatus, read_http_head,
)

from typing import NamedTuple

cdef enum PathKind:
    PATH_ANY
    PATH_PREFIX
    PATH_EXACT
    PATH_SEPARATED
    PATH_NEVER
    PATH_UNKNOWN

cdef enum HeaderKind:
    HEADER_EXACT
    HEADER_PREFIX
    HEADER_SUFFIX
    HEADER_CONTAINS
    HEADER_PRESENT
    HEADER_UNKNOWN

cdef enum Found:
    NO
    YES
    NOT_KNOWN

cdef enum:
    NO_HOST = 0xFFFFFFFF
    KIND_COUNT = 3              # of domains: exact, suffix, prefix

cdef struct Text:
    uint32_t at                 # in `texts`
    uint32_t length

cdef struct Header:
    Text name
    Text text
    uint8_t kind
    uint8_t ignore_case
    uint8_t inverted
    uint8_t missing_is_empty

cdef struct Target:
    uint32_t slot
    uint32_t upper              # running sum of weights

cdef struct Rule:
    Text path
    uint8_t kind
    uint8_t ignore_case
    uint8_t is_known
    uint32_t first_header
    uint32_t header_count
    uint32_t first_target
    uint32_t target_count

cdef struct Host:
    uint32_t first_rule
    uint32_t rule_count
    uint8_t is_closed

cdef struct Domain:
    Text text                   # without its star
    uint32_t host

cdef struct Domains:            # sorted by length, then by bytes
    Domain* items
    uint32_t count

cdef struct CompiledHttpRoutes:
    uint8_t* texts
    Domains domains[KIND_COUNT]
    Host* hosts
    Rule* rules
    Header* headers
    Target* targets
    uint32_t any_host           # of "*"
    uint8_t ignores_port
    uint8_t normalizes_path

cdef struct Span:
    const uint8_t* text
    uint32_t length

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


# ---- texts

cdef inline uint8_t lower(uint8_t byte) noexcept nogil:
    return byte | 0x20 if c"A" <= byte <= c"Z" else byte


cdef inline bint same(const uint8_t* wanted, const uint8_t* text, uint32_t length, bint ignore_case) noexcept nogil:
    cdef uint32_t at
    if not ignore_case:
        return memcmp(wanted, text, length) == 0
    for at in range(length):
        if lower(text[at]) != wanted[at]:
            return False
    return True


cdef inline bint begins(
    const CompiledHttpRoutes* routes, const Text* wanted, const Span* text, bint fold
) noexcept nogil:
    return wanted.length <= text.length and same(routes.texts + wanted.at, text.text, wanted.length, fold)


# ---- virtual host

cdef uint32_t find_domain(
    const CompiledHttpRoutes* routes, const Domains* domains, const uint8_t* name, uint32_t length
) noexcept nogil:
    cdef uint32_t low = 0
    cdef uint32_t high = domains.count
    cdef uint32_t middle
    cdef const Text* text
    cdef int order
    while low < high:
        middle = (low + high) >> 1
        text = &domains.items[middle].text
        if text.length != length:
            order = -1 if text.length < length else 1
        else:
            order = memcmp(routes.texts + text.at, name, length)
        if order == 0:
            return domains.items[middle].host
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return <uint32_t>NO_HOST


cdef uint32_t without_port(const uint8_t* host, uint32_t length) noexcept nogil:
    # Envoy's HeaderUtility::getPortStart: behind the last colon, unless a bracket comes later.
    cdef uint32_t at = length
    while at:
        at -= 1
        if host[at] == c"]":
            return length
        if host[at] == c":":
            return at
    return length


cdef uint32_t find_host(const CompiledHttpRoutes* routes, const uint8_t* name, uint32_t length) noexcept nogil:
    cdef uint32_t host, at
    if routes.ignores_port:
        length = without_port(name, length)
    host = find_domain(routes, &routes.domains[0], name, length)
    if host != <uint32_t>NO_HOST:
        return host
    if routes.domains[1].count:
        for at in range(1, length):
            host = find_domain(routes, &routes.domains[1], name + at, length - at)
            if host != <uint32_t>NO_HOST:
                return host
    if routes.domains[2].count:
        for at in range(1, length):
            host = find_domain(routes, &routes.domains[2], name, length - at)
            if host != <uint32_t>NO_HOST:
                return host
    return routes.any_host


# ---- path and headers

cdef bint is_normal(const Span* path) noexcept nogil:
    """Whether Envoy's normalization (RFC 3986, 6, and WHATWG's backslashes) leaves the path as it is."""
    cdef uint32_t at
    cdef uint8_t byte
    for at in range(path.length):
        byte = path.text[at]
        if byte == c"%" or byte == c"\\" or byte >= 0x80:
            return False
        if byte == c"/" and at + 1 < path.length and path.text[at + 1] == c".":
            return False
    return True


cdef Found match_path(const CompiledHttpRoutes* routes, const Rule* rule, const Span* path) noexcept nogil:
    cdef bint found
    if rule.kind == PATH_ANY:
        return YES
    if rule.kind == PATH_NEVER:
        return NO
    if rule.kind == PATH_UNKNOWN or (routes.normalizes_path and not is_normal(path)):
        return NOT_KNOWN
    found = begins(routes, &rule.path, path, rule.ignore_case)
    if rule.kind == PATH_EXACT:
        found = found and rule.path.length == path.length
    elif rule.kind == PATH_SEPARATED:
        found = found and (rule.path.length == path.length or path.text[rule.path.length] == c"/")
    return YES if found else NO


cdef bint next_line(const uint8_t* data, size_t length, size_t* at, Span* name, Span* value) noexcept nogil:
    """The next header of a head; False at its end, or where it has not come yet: at[0] is `length` then."""
    cdef const uint8_t* newline = NULL
    cdef size_t start = at[0]
    cdef size_t end, colon
    if start < length:
        newline = <const uint8_t*>memchr(data + start, c"\n", length - start)
    if newline == NULL:
        at[0] = length
        return False
    end = <size_t>(newline - data)
    at[0] = end + 1
    if end > start and data[end - 1] == c"\r":
        end -= 1
    if end == start:
        return False
    colon = start
    while colon < end and data[colon] != c":":
        colon += 1
    name.text = data + start
    name.length = <uint32_t>(colon - start)
    colon = min(colon + 1, end)
    while colon < end and (data[colon] == c" " or data[colon] == c"\t"):
        colon += 1
    while end > colon and (data[end - 1] == c" " or data[end - 1] == c"\t"):
        end -= 1
    value.text = data + colon
    value.length = <uint32_t>(end - colon)
    return True


cdef Found match_value(const CompiledHttpRoutes* routes, const Header* header, const Span* value) noexcept nogil:
    cdef const uint8_t* wanted = routes.texts + header.text.at
    cdef uint32_t size = header.text.length
    cdef uint32_t at
    if header.kind == HEADER_PRESENT:
        return YES
    if header.kind == HEADER_UNKNOWN:
        return NOT_KNOWN
    if size > value.length:
        return NO
    if header.kind == HEADER_EXACT:
        return YES if size == value.length and same(wanted, value.text, size, header.ignore_case) else NO
    if header.kind == HEADER_PREFIX:
        return YES if same(wanted, value.text, size, header.ignore_case) else NO
    if header.kind == HEADER_SUFFIX:
        return YES if same(wanted, value.text + value.length - size, size, header.ignore_case) else NO
    for at in range(value.length - size + 1):
        if same(wanted, value.text + at, size, header.ignore_case):
            return YES
    return NO


cdef bint find_pseudo(
    const CompiledHttpRoutes* routes, const Header* header, const uint8_t* data, const HttpHead* head, Span* value
) noexcept nogil:
    """Of :method, :authority and :path."""
    cdef const uint8_t* name = routes.texts + header.name.at
    if header.name.length == 7 and memcmp(name, b":method", 7) == 0:
        value.text = data
        value.length = head.method_length
    elif header.name.length == 10 and memcmp(name, b":authority", 10) == 0:
        value.text = <const uint8_t*>head.authority
        value.length = head.authority_length
    elif header.name.length == 5 and memcmp(name, b":path", 5) == 0:
        value.text = data + head.path
        value.length = head.path_length
    else:
        return False
    return True


cdef Found match_header(
    const CompiledHttpRoutes* routes, const Header* header, const uint8_t* data, size_t length, const HttpHead* head
) noexcept nogil:
    cdef size_t at = head.lines
    cdef Span name, value
    cdef Found found = NO
    cdef uint32_t times = 0
    if find_pseudo(routes, header, data, head, &value):
        found = match_value(routes, header, &value)
        times = 1
    else:
        while next_line(data, length, &at, &name, &value):
            if name.length == header.name.length and same(routes.texts + header.name.at, name.text, name.length, True):
                times += 1
                found = match_value(routes, header, &value)
    if times == 0 and header.missing_is_empty:
        value.text = data
        value.length = 0
        found = match_value(routes, header, &value)
    elif times == 0:
        # Missing: as in Envoy it matches nothing, and only its absence can be asked for.
        return YES if header.inverted and header.kind == HEADER_PRESENT else NO
    if found == NOT_KNOWN or (times > 1 and header.kind != HEADER_PRESENT):
        # Several are one value with commas between; seldom enough.
        return NOT_KNOWN
    return <Found>((found == YES) != (header.inverted != 0))


cdef bint is_complete(const uint8_t* data, size_t length, const HttpHead* head) noexcept nogil:
    """Whether the empty line behind the headers has come."""
    cdef size_t at = head.lines
    cdef size_t start = at
    cdef Span name, value
    while next_line(data, length, &at, &name, &value):
        start = at
    # It is what stands between the last header and where the search ended.
    return at > start and data[at - 1] == c"\n" and at - start <= 2


cdef Found match_rule(
    const CompiledHttpRoutes* routes, const Rule* rule, const uint8_t* data, size_t length, const HttpHead* head,
    const Span* path
) noexcept nogil:
    cdef Found found = match_path(routes, rule, path)
    cdef Found one
    cdef uint32_t index
    if found == NO:
        return NO
    for index in range(rule.header_count):
        one = match_header(routes, &routes.headers[rule.first_header + index], data, length, head)
        if one == NO:
            return NO
        if one == NOT_KNOWN:
            found = NOT_KNOWN
    return found if rule.is_known else NOT_KNOWN


# ---- choice

cdef HttpChoice go(const CompiledHttpRoutes* routes, const Rule* rule, uint64_t draw, uint32_t* slot) noexcept nogil:
    cdef const Target* target = &routes.targets[rule.first_target]
    cdef uint32_t at
    if rule.target_count == 0:
        return HTTP_CLOSED
    at = <uint32_t>(draw % target[rule.target_count - 1].upper)
    while target.upper <= at:
        target += 1
    slot[0] = target.slot
    return HTTP_FOUND


cdef HttpChoice choose_http_route(
    const CompiledHttpRoutes* routes, const uint8_t* data, size_t length, const HttpHead* head, uint64_t draw,
    uint32_t* slot
) noexcept nogil:
    cdef uint32_t number = find_host(routes, <const uint8_t*>head.authority, head.authority_length)
    cdef const Host* host
    cdef const Rule* rule
    cdef Span path
    cdef Found found
    cdef uint32_t index
    if number == <uint32_t>NO_HOST:
        return HTTP_NOBODY
    host = &routes.hosts[number]
    if host.is_closed:
        return HTTP_CLOSED
    path.text = data + head.path
    path.length = head.path_length
    for index in range(host.rule_count):
        rule = &routes.rules[host.first_rule + index]
        if head.protocol == HTTP_2:
            found = YES if rule.kind == PATH_ANY and rule.header_count == 0 and rule.is_known else NO
        elif head.is_connect:
            # Routes for CONNECT alone take it.
            found = NO
        elif rule.header_count and match_path(routes, rule, &path) != NO and not is_complete(data, length, head):
            return HTTP_MORE
        else:
            found = match_rule(routes, rule, data, length, head, &path)
        if found == YES:
            return go(routes, rule, draw, slot)
        if found == NOT_KNOWN:
            return HTTP_UNKNOWN
    return HTTP_NOBODY


# ---- compile

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
