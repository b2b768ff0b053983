/* The reader of assignments over any bytes, with columns of exactly the counted size, as assignment.pyx calls it. */
#include "endpoint_reader.c"
#include "target.h"

#define OURS(kind, name) __pyx_##kind##_8eastgate_3xds_15endpoint_reader_##name
#define COLUMNS(kind, name) __pyx_##kind##_8eastgate_3xds_18assignment_columns_##name

typedef struct COLUMNS(t, Reader) Reader;
typedef struct COLUMNS(t, LocalityEndpoints) LocalityEndpoints;
enum {
    UNIX = COLUMNS(e, FAMILY_UNIX),
    IPV4 = COLUMNS(e, FAMILY_IPV4),
    IPV6 = COLUMNS(e, FAMILY_IPV6),
    LAST_HEALTH = COLUMNS(e, HEALTH_LAST),
    LAST_PRIORITY = COLUMNS(e, PRIORITY_LAST),
};

/* Zero bytes are memory of their own too: one byte past them is one too many. */
static void *room(size_t bytes) {
    void *found = malloc(bytes);
    REQUIRE(found != NULL || bytes == 0);
    return found;
}

static void check_rows(const Reader *reader, size_t rows, size_t size) {
    for (size_t row = 0; row < rows; row++) {
        REQUIRE(reader->family[row] == UNIX || reader->family[row] == IPV4 || reader->family[row] == IPV6);
        REQUIRE(reader->health[row] <= LAST_HEALTH && reader->priority[row] <= LAST_PRIORITY && reader->weight[row] != 0);
        if (reader->family[row] == UNIX) {
            uint32_t span[2];
            memcpy(span, reader->address + 16 * row, sizeof span);
            REQUIRE(span[1] != 0 && (size_t)span[0] + span[1] <= size);
        }
    }
}

static void check_localities(const Reader *reader, size_t localities, size_t rows) {
    Py_ssize_t at = 0;
    for (size_t number = 0; number < localities; number++) {
        REQUIRE(reader->localities[number].first == at && reader->localities[number].last >= at);
        at = reader->localities[number].last;
        /* merge_localities writes these in between. */
        for (Py_ssize_t row = reader->localities[number].first; row < at; row++) reader->locality[row] = (uint16_t)number;
    }
    REQUIRE((size_t)at == rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Reader reader;
    Py_ssize_t counted = 0, localities = 0;
    memset(&reader, 0, sizeof reader);
    data = at_the_edge(0, data, size);
    reader.start = data;
    int fault = OURS(f, count_rows)(&reader, data, data + size, &counted, &localities);
    if (fault < 0) {
        REQUIRE(reader.fault_at >= data && reader.fault_at <= data + size);
        return 0;
    }
    size_t rows = (size_t)counted;
    REQUIRE(counted >= 0 && localities >= 0 && rows <= size && (size_t)localities <= size);
    reader.family = room(rows);
    reader.address = room(16 * rows);
    reader.port = room(2 * rows);
    reader.weight = room(4 * rows);
    reader.health = room(rows);
    reader.priority = room(rows);
    reader.locality = room(2 * rows);
    reader.flags = room(rows);
    reader.localities = calloc((size_t)localities + 1, sizeof(LocalityEndpoints));
    fault = OURS(f, read_assignment)(&reader, data, data + size);
    if (fault < 0) {
        REQUIRE(reader.fault_at >= data && reader.fault_at <= data + size);
    } else {
        check_rows(&reader, rows, size);
        check_localities(&reader, (size_t)localities, rows);
        uint8_t *duplicate = calloc(rows + 1, 1);
        /* As of EDS and as of names: the sizes of inputs are of both kinds. */
        Py_ssize_t duplicates = OURS(f, find_duplicates)(&reader, counted, duplicate, (int)(size & 1));
        REQUIRE(duplicates >= 0 && duplicates <= counted && (rows == 0 || duplicates < counted));
        OURS(f, drop_rows)(&reader, counted, duplicate);
        check_rows(&reader, rows - (size_t)duplicates, size);
        free(duplicate);
    }
    free(reader.family), free(reader.address), free(reader.port), free(reader.weight), free(reader.health);
    free(reader.priority), free(reader.locality), free(reader.flags), free(reader.localities);
    return 0;
}
