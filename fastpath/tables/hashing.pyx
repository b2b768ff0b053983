"""Hash bytes as Envoy does: XXH64, 64-bit MurmurHash2, and clients by the text of their address.

Rule: XXH64 is that of the xxHash specification; MurmurHash2 the form that libstdc++ hashes strings with, seed
0xc70f6907. A client's hash is XXH64 with seed 0 of its address as inet_ntop writes it, without a port.

Worked example: xxh64(b"foo") = 3728699739546630719 and murmur2(b"foo") = 9631199822919835226, as in Envoy's unit tests.

Where it differs from Envoy: nowhere.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from ipaddress import ip_address

cdef extern from "<arpa/inet.h>" nogil:
    int AF_INET
    int AF_INET6
    const char* inet_ntop(int family, const void* address, char* text, unsigned int size)

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #define EG_P1 0x9E3779B185EBCA87ull
    #define EG_P2 0xC2B2AE3D27D4EB4Full
    #define EG_P3 0x165667B19E3779F9ull
    #define EG_P4 0x85EBCA77C2B2AE63ull
    #define EG_P5 0x27D4EB2F165667C5ull
    #define EG_MURMUR 0xC6A4A7935BD1E995ull
    static inline uint64_t eg_rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }
    static inline uint64_t eg_read_64(const uint8_t* bytes)
    {
        uint64_t word;
        memcpy(&word, bytes, 8);
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        return word;
    }
    static inline uint64_t eg_read_32(const uint8_t* bytes)
    {
        uint32_t word;
        memcpy(&word, bytes, 4);
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
        word = __builtin_bswap32(word);
    #endif
        return word;
    }
    static inline uint64_t eg_round(uint64_t lane, uint64_t word)
    {
        return eg_rotate(lane + word * EG_P2, 31) * EG_P1;
    }
    static uint64_t eg_xxh64(const uint8_t* bytes, size_t length, uint64_t seed)
    {
        const uint8_t* end = bytes + length;
        uint64_t total = seed + EG_P5;
        if (length >= 32) {
            uint64_t lanes[4] = {seed + EG_P1 + EG_P2, seed + EG_P2, seed, seed - EG_P1};
            for (; end - bytes >= 32; bytes += 32)
                for (int lane = 0; lane < 4; lane++)
                    lanes[lane] = eg_round(lanes[lane], eg_read_64(bytes + 8 * lane));
            total = eg_rotate(lanes[0], 1) + eg_rotate(lanes[1], 7) + eg_rotate(lanes[2], 12) + eg_rotate(lanes[3], 18);
            for (int lane = 0; lane < 4; lane++)
                total = (total ^ eg_round(0, lanes[lane])) * EG_P1 + EG_P4;
        }
        total += length;
        for (; end - bytes >= 8; bytes += 8)
            total = eg_rotate(total ^ eg_round(0, eg_read_64(bytes)), 27) * EG_P1 + EG_P4;
        if (end - bytes >= 4) {
            total = eg_rotate(total ^ eg_read_32(bytes) * EG_P1, 23) * EG_P2 + EG_P3;
            bytes += 4;
        }
        for (; bytes < end; bytes++)
            total = eg_rotate(total ^ *bytes * EG_P5, 11) * EG_P1;
        total = (total ^ total >> 33) * EG_P2;
        total = (total ^ total >> 29) * EG_P3;
        return total ^ total >> 32;
    }
    static inline uint64_t eg_shift_mix(uint64_t value) { return value ^ value >> 47; }
    static uint64_t eg_murmur2(const uint8_t* bytes, size_t length)
    {
        uint64_t total = 0xC70F6907ull ^ length * EG_MURMUR;
        const uint8_t* end = bytes + length;
        for (; end - bytes >= 8; bytes += 8)
            total = (total ^ eg_shift_mix(eg_read_64(bytes) * EG_MURMUR) * EG_MURMUR) * EG_MURMUR;
        if (bytes < end) {
            uint64_t tail = 0;
            for (int place = 0; bytes + place < end; place++)
                tail |= (uint64_t)bytes[place] << 8 * place;
            total = (total ^ tail) * EG_MURMUR;
        }
        return eg_shift_mix(eg_shift_mix(total) * EG_MURMUR);
    }
    """
    uint64_t eg_xxh64(const uint8_t* bytes, size_t length, uint64_t seed) nogil
    uint64_t eg_murmur2(const uint8_t* bytes, size_t length) nogil


cdef uint64_t xxh64_of(const uint8_t* bytes, size_t length, uint64_t seed) noexcept nogil:
    return eg_xxh64(bytes, length, seed)


cdef uint64_t murmur2_of(const uint8_t* bytes, size_t length) noexcept nogil:
    return eg_murmur2(bytes, length)


cdef uint64_t source_hash(uint8_t family, const uint8_t* address) noexcept nogil:
    cdef char text[64]
    inet_ntop(AF_INET if family == 4 else AF_INET6, address, text, sizeof(text))
    return eg_xxh64(<const uint8_t*>text, strlen(text), 0)


cdef uint32_t write_decimal(uint32_t number, char* text) noexcept nogil:
    cdef char digits[10]
    cdef uint32_t count = 0
    cdef uint32_t place
    while count == 0 or number > 0:
        digits[count] = <char>(48 + number % 10)
        number //= 10
        count += 1
    for place in range(count):
        text[place] = digits[count - 1 - place]
    return count


cdef uint32_t address_key(uint8_t family, const uint8_t* address, uint16_t port, char* text) noexcept nogil:
    cdef uint32_t length
    if family == 4:
        inet_ntop(AF_INET, address, text, KEY_CAPACITY)
        length = <uint32_t>strlen(text)
    else:
        text[0] = 91            # [
        inet_ntop(AF_INET6, address, text + 1, KEY_CAPACITY - 1)
        length = <uint32_t>strlen(text)
        text[length] = 93       # ]
        length += 1
    text[length] = 58           # :
    return length + 1 + write_decimal(port, text + length + 1)


def xxh64(bytes data, seed=0):
    """XXH64 of some bytes."""
    return eg_xxh64(<const uint8_t*><const char*>data, len(data), seed)


def murmur2(bytes data):
    """64-bit MurmurHash2, with the seed of libstdc++."""
    return eg_murmur2(<const uint8_t*><const char*>data, len(data))


def source_ip_hash(address):
    """Hash of a client by its IP address. ValueError for a text that is none."""
    cdef uint8_t raw[16]
    cdef bytes packed = ip_address(address).packed
    memcpy(raw, <const char*>packed, len(packed))
    return source_hash(4 if len(packed) == 4 else 6, raw)
