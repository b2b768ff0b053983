/* What the targets share. A target includes the C that Cython made of one module and calls its functions directly:
 * no interpreter runs. Built and run by tests/fuzz/native_targets.py. */
#ifndef EASTGATE_FUZZ_TARGET_H
#define EASTGATE_FUZZ_TARGET_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A promise of the parser; the fuzzer keeps the input that breaks it. */
#define REQUIRE(condition)                                                          \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

enum { INPUT_LIMIT = 1 << 20 };

/* A copy that ends where memory ends, so that reading past it is a fault with a sanitizer and without. Each target has
 * two, for the input and for a part of it. */
static inline uint8_t *at_the_edge(int number, const uint8_t *data, size_t size) {
    static uint8_t *edges[2];
    if (edges[number] == NULL) {
        long page = sysconf(_SC_PAGESIZE);
        uint8_t *room = mmap(NULL, INPUT_LIMIT + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(room != MAP_FAILED && mprotect(room + INPUT_LIMIT, page, PROT_NONE) == 0);
        edges[number] = room + INPUT_LIMIT;
    }
    REQUIRE(size <= INPUT_LIMIT);
    return size == 0 ? edges[number] : (uint8_t *)memcpy(edges[number] - size, data, size);
}

/* A length below `size` that the fuzzer chooses by what it writes, and that an input which is kept repeats. */
static inline size_t chosen_length(const uint8_t *data, size_t size) {
    uint64_t hash = 14695981039346656037u ^ size; /* FNV-1a, of 64 bytes at most: it must cost little beside a parse */
    for (size_t at = 0, step = 1 + size / 64; at < size; at += step) hash = (hash ^ data[at]) * 1099511628211u;
    return size == 0 ? 0 : (size_t)(hash >> 20) % size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
