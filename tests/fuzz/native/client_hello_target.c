/* The ClientHello parser over any bytes: an answer stands whatever comes after, and waiting is bounded. */
#include "client_hello.c"
#include "target.h"

#define OURS(kind, name) __pyx_##kind##_8eastgate_8fastpath_5match_12client_hello_##name
#define OF_FACTS(kind, name) __pyx_##kind##_8eastgate_8fastpath_5match_5facts_##name

typedef struct OURS(t, ClientHello) Hello;
typedef struct OF_FACTS(t, Protocols) Protocols;
enum {
    COMPLETE = OURS(e, HELLO_COMPLETE),
    NEED_MORE = OURS(e, HELLO_NEED_MORE),
    BAD_SNI = OURS(e, HELLO_BAD_SNI),
    LIMIT = OURS(e, HELLO_LIMIT),
    PROTOCOLS = OF_FACTS(e, PROTOCOL_CAPACITY),
    PROTOCOL_BYTES = OF_FACTS(e, PROTOCOL_BYTES),
    NAME_LIMIT = OURS(e, SNI_CAPACITY) - 3,
};

/* What a listener allows: most of it, or a small part that the input chooses. */
static uint32_t limit = LIMIT;

static int parse_into(Hello *hello, const uint8_t *data, size_t size) {
    return (int)OURS(f, parse_client_hello)(data, size, limit, hello);
}

static void check_hello(const Hello *hello, int status, size_t size) {
    if (status == NEED_MORE) {
        REQUIRE(hello->needed > size && hello->needed <= limit);
    } else {
        REQUIRE(hello->needed == 0);
    }
    REQUIRE(hello->sni_length <= NAME_LIMIT && hello->sni[hello->sni_length] == 0);
    REQUIRE(status == COMPLETE || hello->sni_length == 0);
    for (size_t at = 0; at < hello->sni_length; at++) {
        REQUIRE(hello->sni[at] >= 0x21 && hello->sni[at] <= 0x7e && !(hello->sni[at] >= 'A' && hello->sni[at] <= 'Z'));
    }
    const Protocols *offered = &hello->protocols;
    REQUIRE(offered->count <= PROTOCOLS);
    REQUIRE(status == COMPLETE || status == BAD_SNI || (offered->count == 0 && !offered->incomplete));
    size_t used = 0;
    for (size_t at = 0; at < offered->count; at++) {
        REQUIRE(offered->offset[at] == used && offered->length[at] != 0);
        used += offered->length[at];
        REQUIRE(used <= PROTOCOL_BYTES);
    }
}

static void check_equal(const Hello *one, const Hello *other) {
    const Protocols *ones = &one->protocols, *others = &other->protocols;
    REQUIRE(one->version == other->version && one->sni_length == other->sni_length);
    REQUIRE(memcmp(one->sni, other->sni, one->sni_length) == 0);
    REQUIRE(ones->count == others->count && ones->incomplete == others->incomplete);
    for (size_t at = 0; at < ones->count; at++) {
        REQUIRE(ones->length[at] == others->length[at] && ones->offset[at] == others->offset[at]);
        REQUIRE(memcmp(ones->bytes + ones->offset[at], others->bytes + others->offset[at], ones->length[at]) == 0);
    }
}

/* The input as it is at the edge, whole and at a prefix. */
static void check(const uint8_t *data, size_t size) {
    Hello whole, part;
    int answer = parse_into(&whole, data, size);
    check_hello(&whole, answer, size);

    size_t length = chosen_length(data, size);
    const uint8_t *prefix = at_the_edge(1, data, length);
    int earlier = parse_into(&part, prefix, length);
    check_hello(&part, earlier, length);
    if (earlier != NEED_MORE) {
        REQUIRE(earlier == answer);
        check_equal(&part, &whole);
    } else if (answer == NEED_MORE) {
        REQUIRE(part.needed <= whole.needed);
    } else if (answer == COMPLETE || answer == BAD_SNI) {
        /* Who was told to wait for more than there is would have waited for ever. */
        REQUIRE(part.needed <= size);
    }
}

/* Near relatives of each input that are checked with it, one byte changed. A parse takes a third of what the fuzzer
 * spends on an input, so a long run asks for many. */
#ifndef RELATIVES
#define RELATIVES 0
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *input = at_the_edge(0, data, size);
    limit = LIMIT;
    check(input, size);
    limit = 256 + chosen_length(input, size) % 1024;
    check(input, size);
    limit = LIMIT;
    uint64_t state = chosen_length(input, size) + 1;
    for (int number = 0; number < RELATIVES && size != 0; number++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17; /* xorshift64: the input decides it */
        uint8_t *byte = input + (state >> 16) % size, kept = *byte;
        *byte = (uint8_t)state;
        check(input, size);
        *byte = kept;
    }
    return 0;
}
