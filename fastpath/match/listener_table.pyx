"""Listeners by address: where a redirected connection was going says which listener it belongs to.

As Envoy's connection handler finds it: the exact address and port, else the wildcard address of the same family and
that port, else none, and it stays with the listener whose socket took it. A wildcard of IPv6 that takes IPv4 too stands
for both, and an IPv4-mapped address for the IPv4 one, where no other listener does.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from eastgate.fastpath.match.facts cimport Address, Observed
from eastgate.fastpath.match.route_nodes cimport hash_name

import os
from socket import AF_INET, AF_INET6, inet_ntop
from sys import getsizeof
from typing import NamedTuple

cdef enum:
    # More addresses than a node has ports.
    MOST_ADDRESSES = 1 << 24

cdef bytes MAPPED_IPV4 = bytes(10) + b"\xff\xff"


class ListenerAddress(NamedTuple):
    """An address (4 or 16 bytes) that a listener stands for, under the number that is found.

    `ipv4_compat`: an IPv6 address that takes the IPv4 connections of a wildcard, or of a mapped address, as well.
    """

    name: str
    address: bytes
    port: int
    number: int
    ipv4_compat: bool = False


cdef inline uint32_t find_place(const ListenerPlaces* places, const Address* key) noexcept nogil:
    """Where the key is, or the free place where it would be."""
    cdef uint32_t at = <uint32_t>hash_name(<const char*>key, sizeof(Address), places.seed) & places.mask
    while places.places[at].address.family and memcmp(&places.places[at].address, key, sizeof(Address)) != 0:
        at = (at + 1) & places.mask
    return at


cdef uint32_t find_listener(const ListenerPlaces* places, const Address* destination) noexcept nogil:
    cdef Address key
    cdef uint32_t at
    if places == NULL or places.places == NULL or (destination.family != 4 and destination.family != 6):
        return NO_LISTENER
    # Padding too is compared.
    memset(&key, 0, sizeof(key))
    key.family = destination.family
    key.port = destination.port
    memcpy(key.bytes, destination.bytes, 4 if key.family == 4 else 16)
    at = find_place(places, &key)
    if places.places[at].address.family:
        return places.places[at].number
    memset(key.bytes, 0, sizeof(key.bytes))
    at = find_place(places, &key)
    return places.places[at].number if places.places[at].address.family else NO_LISTENER


cdef str address_text(bytes address, port):
    if len(address) == 4:
        return f"{inet_ntop(AF_INET, address)}:{port}"
    return f"[{inet_ntop(AF_INET6, address)}]:{port}"


cdef bytes also_of(object one):
    """IPv4 address that an IPv6 one stands for as well, or None."""
    if not one.ipv4_compat or len(one.address) != 16:
        return None
    if one.address == bytes(16):
        return bytes(4)
    return one.address[12:] if one.address.startswith(MAPPED_IPV4) else None


cdef dict owners_of(object addresses):
    """(address, port) -> who stands for it. Raises ValueError naming two that do."""
    owners = {}
    for one in addresses:
        if len(one.address) not in (4, 16):
            raise ValueError(f"listener {one.name}: {len(one.address)} bytes are no IP address")
        if not 0 <= one.port <= 65535:
            raise ValueError(f"listener {one.name}: port {one.port} is outside 0..65535")
        if not 0 <= one.number < NO_LISTENER:
            raise ValueError(f"listener {one.name}: number {one.number} is outside 0..2147483646")
        other = owners.setdefault((one.address, one.port), one)
        if other is not one:
            where = address_text(one.address, one.port)
            raise ValueError(f"listeners {other.name} and {one.name} have the same address {where}")
    for one in list(owners.values()):
        also = also_of(one)
        if also is not None:
            owners.setdefault((also, one.port), one)
    return owners


@cython.final
cdef class ListenerTable:
    """Numbers of listeners by address; immutable."""

    def __init__(self):
        raise TypeError("use ListenerTable.compile")

    def __dealloc__(self):
        free(self.table.places)

    def __reduce__(self):
        raise TypeError("a ListenerTable cannot be pickled")

    def __len__(self):
        return self.count

    def memory(self):
        """Bytes of this table."""
        cdef size_t places = self.table.mask + 1 if self.table.places != NULL else 0
        return getsizeof(self) + places * sizeof(ListenerPlace)

    @staticmethod
    def compile(addresses):
        """Table of ListenerAddresses. Raises ValueError, naming the listeners, for one address of two."""
        cdef ListenerTable table = ListenerTable.__new__(ListenerTable)
        cdef ListenerPlace* place
        cdef uint32_t size = 2
        cdef Address key
        cdef bytes address
        owners = owners_of(addresses)
        if len(owners) > MOST_ADDRESSES:
            raise ValueError(f"{len(owners)} addresses of listeners are too many")
        while size < 2 * len(owners):
            size <<= 1
        table.table.places = <ListenerPlace*>calloc(size, sizeof(ListenerPlace))
        if table.table.places == NULL:
            raise MemoryError
        table.table.mask = size - 1
        table.table.seed = int.from_bytes(os.urandom(8), "little")
        for (address, port), owner in owners.items():
            memset(&key, 0, sizeof(key))
            key.family = 4 if len(address) == 4 else 6
            key.port = port
            memcpy(key.bytes, PyBytes_AS_STRING(address), len(address))
            place = &table.table.places[find_place(&table.table, &key)]
            memcpy(&place.address, &key, sizeof(key))
            place.number = owner.number
            table.count += 1
        return table

    def find(self, Observed observed not None):
        """Number of the listener that the destination belongs to, or None."""
        cdef uint32_t number = find_listener(&self.table, &observed.facts.destination)
        return None if number == NO_LISTENER else number
