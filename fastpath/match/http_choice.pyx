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
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from eastgate.fastpath.match.http_head cimport HTTP_2, HttpHead

cdef enum Found:
    NO
    YES
    NOT_KNOWN

cdef struct Span:
    const uint8_t* text
    uint32_t length


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
        # What begins with a slash. OPTIONS asks for "*", too.
        return NO if rule.path.length and path.length and path.text[0] == c"*" else YES
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
    """Of :method, :authority and :path, as they were sent."""
    cdef const uint8_t* name = routes.texts + header.name.at
    if header.name.length == 7 and memcmp(name, b":method", 7) == 0:
        value.text = data
        value.length = head.method_length
    elif header.name.length == 10 and memcmp(name, b":authority", 10) == 0:
        value.text = data + head.authority_at
        value.length = head.authority_length
    elif header.name.length == 5 and memcmp(name, b":path", 5) == 0:
        value.text = data + head.path
        value.length = head.whole_path_length
    else:
        return False
    return True


cdef inline bint is_path_known(
    const CompiledHttpRoutes* routes, const uint8_t* data, const HttpHead* head
) noexcept nogil:
    cdef Span path
    path.text = data + head.path
    path.length = head.path_length
    return head.whole_path_length > 0 and (not routes.normalizes_path or is_normal(&path))


cdef Found match_header(
    const CompiledHttpRoutes* routes, const Header* header, const uint8_t* data, size_t length, const HttpHead* head
) noexcept nogil:
    cdef size_t at = head.lines
    cdef Span name, value
    cdef Found found = NO
    cdef uint32_t times = 0
    if find_pseudo(routes, header, data, head, &value):
        if value.text == data + head.path and not is_path_known(routes, data, head):
            return NOT_KNOWN
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


cdef const Target* http_targets(
    const CompiledHttpRoutes* routes, const uint8_t* authority, uint32_t length, uint32_t* count
) noexcept nogil:
    cdef uint32_t number
    cdef const Host* host
    cdef const Rule* rule
    count[0] = routes.target_count
    if authority == NULL:
        return routes.targets
    count[0] = 0
    number = find_host(routes, authority, length)
    if number == <uint32_t>NO_HOST:
        return routes.targets
    host = &routes.hosts[number]
    if host.is_closed or host.rule_count == 0:
        return routes.targets
    rule = &routes.rules[host.first_rule]
    count[0] = rule[host.rule_count - 1].first_target + rule[host.rule_count - 1].target_count - rule.first_target
    return &routes.targets[rule.first_target]
