# Hashes that Envoy builds ring and Maglev tables with, and tells clients apart by. Not for secrets.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    KEY_CAPACITY = 64           # longest text of an address with its port, and the 0 behind it

cdef uint64_t xxh64_of(const uint8_t* bytes, size_t length, uint64_t seed) noexcept nogil
# 64-bit MurmurHash2 with the seed of libstdc++.
cdef uint64_t murmur2_of(const uint8_t* bytes, size_t length) noexcept nogil
# Hash of a client by its address (family 4 or 6, network order), as Envoy's hash policy source_ip has it.
cdef uint64_t source_hash(uint8_t family, const uint8_t* address) noexcept nogil
# "1.2.3.4:80" or "[::1]:80" into text[KEY_CAPACITY]; returns its length.
cdef uint32_t address_key(uint8_t family, const uint8_t* address, uint16_t port, char* text) noexcept nogil
# Decimal digits of `number` into text[10]; returns how many.
cdef uint32_t write_decimal(uint32_t number, char* text) noexcept nogil
