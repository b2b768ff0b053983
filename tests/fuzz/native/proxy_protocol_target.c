/* The PROXY header parser over any bytes: an answer stands whatever comes after, and waiting is bounded. */
#include "proxy_protocol.c"
#include "target.h"

#define OURS(kind, name) __pyx_##kind##_8eastgate_8fastpath_5match_14proxy_protocol_##name

typedef struct OURS(t, ProxyHeader) Header;
enum {
    COMPLETE = OURS(e, PROXY_COMPLETE),
    NEED_MORE = OURS(e, PROXY_NEED_MORE),
    ABSENT = OURS(e, PROXY_ABSENT),
    OPTIONAL = OURS(e, PROXY_OPTIONAL),
    LIMIT = OURS(e, PROXY_HEADER_LIMIT),
};

/* Versions, and whether a header must be there: all that a listener can ask for. */
static const int KINDS[] = {3, 7, 1, 2, 5, 6};
static int kinds;

static int parse_into(Header *header, const uint8_t *data, size_t size) {
    return (int)OURS(f, parse_proxy_header)(data, size, kinds, header);
}

static void check_header(const Header *header, int status, size_t size) {
    if (status == NEED_MORE) REQUIRE(header->needed > size && header->needed <= LIMIT);
    REQUIRE(status != ABSENT || (kinds & OPTIONAL));
    if (status == COMPLETE) {
        REQUIRE(header->header_length != 0 && header->header_length <= size && header->header_length <= LIMIT);
        REQUIRE(header->family == 0 || header->family == 4 || header->family == 6);
    } else {
        REQUIRE(header->header_length == 0 && header->family == 0);
    }
}

/* What importing the module does. */
static void begin(void) {
    OURS(v, V1_SIGNATURE) = "PROXY ";
    OURS(v, V2_SIGNATURE) = "\r\n\r\n\0\r\nQUIT\n";
}

static void check(const uint8_t *data, size_t size) {
    Header whole, part;
    int answer = parse_into(&whole, data, size);
    check_header(&whole, answer, size);

    size_t length = chosen_length(data, size);
    const uint8_t *prefix = at_the_edge(1, data, length);
    int earlier = parse_into(&part, prefix, length);
    check_header(&part, earlier, length);
    if (earlier != NEED_MORE) {
        REQUIRE(earlier == answer && part.header_length == whole.header_length && part.family == whole.family);
        REQUIRE(part.source_port == whole.source_port && part.destination_port == whole.destination_port);
        REQUIRE(memcmp(part.source, whole.source, sizeof part.source) == 0);
        REQUIRE(memcmp(part.destination, whole.destination, sizeof part.destination) == 0);
    } else if (answer == NEED_MORE) {
        REQUIRE(part.needed <= whole.needed);
    } else if (answer == COMPLETE) {
        REQUIRE(part.needed <= size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    begin();
    data = at_the_edge(0, data, size);
    for (size_t at = 0; at < sizeof KINDS / sizeof *KINDS; at++) {
        kinds = KINDS[at];
        check(data, size);
    }
    return 0;
}
