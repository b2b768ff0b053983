"""Which open connections a push may end. It cuts no one without need.

A connection whose listener and chain are as they were is not touched. Otherwise it is judged as if it came now, with
what is known of it: addresses, the hello or the protocol of the first request as they were found then, the client's
certificate. It stays if the tables, as they are now, would send it to the cluster that it has, through TLS as it has
it, and if the policies there allow it. What was not known at first is not known now.

Of HTTP routes by request the authority is kept: a virtual host has to lead to the cluster by any of its routes. Of a
cluster that moved to another address, of which the control side tells, connections to the old one stay.

What does not fit is marked, and ends after the drain time, unless a later push makes it fit again; that is asked once
more at the end. With `cuts_changed` everything of a changed chain ends, as in Envoy.

Worked example: 100,000 connections of a worker, LOOKS 2,048, a judgement counts as 16. Of an untouched listener they
are passed over in 49 turns; all of a changed one are judged in 782. Those that do not fit end 65.5 us apart, 256 a
tick: all of them in 6.6 s, and no turn of the loop is long.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from eastgate.fastpath.loop.closing cimport finish
from eastgate.fastpath.loop.cluster_slots cimport SlotVersion, slot_version
from eastgate.fastpath.loop.connection cimport (
    BEGAN_HTTP, BEGAN_TLS, Connection, ListenerState, PHASE_RELAY, PEER_CAPACITY,
)
from eastgate.fastpath.loop.connection_record cimport note_policy
from eastgate.fastpath.loop.first_request cimport name_destination
from eastgate.fastpath.loop.leg cimport leg_admits, leg_local, leg_peer
from eastgate.fastpath.loop.listener_states cimport Directory, ListenerStates, state_at
from eastgate.fastpath.loop.remembered cimport recall_hello
from eastgate.fastpath.loop.worker_state cimport (
    MILLISECOND, Move, MoveList, Shared, TICK_SHIFT, Worker, raise_ready, schedule_in,
)
from eastgate.fastpath.match.facts cimport Address, Facts, Protocols
from eastgate.fastpath.match.http_choice cimport Target, http_targets
from eastgate.fastpath.match.http_head cimport HTTP_2, HttpHead, HttpProtocol, http_protocols
from eastgate.fastpath.match.policy cimport CompiledPolicies, Peer, PolicyVerdict, judge_policies
from eastgate.fastpath.match.route_nodes cimport (
    RouteChain, Routes, route_chain, route_has, route_inspects_http, route_inspects_tls, route_match,
)
from eastgate.fastpath.posix cimport (
    atomic_add, atomic_load64, atomic_load8, atomic_load_acquire, atomic_load_pointer, atomic_store8, atomic_store64,
    atomic_store_pointer, ssize_t, write,
)
from eastgate.fastpath.reason cimport Reason

from typing import NamedTuple

# A century, whose nanoseconds fit into 64 bits.
cdef uint64_t LONGEST_DRAIN_MS = <uint64_t>100 * 366 * 86400000

cdef enum:
    LOOKS = 2048                # connections that one turn looks at
    JUDGEMENT = 16              # looks that a judgement counts for
    END_GAP = 1 << (TICK_SHIFT - 8)     # nanoseconds from one that ends to the next


class ReviewSettings(NamedTuple):
    """How open connections of what changed are looked at.

    `drain_ms`: how long one goes on that does not fit any more. `cuts_changed`: all of a changed chain end, needed or
    not. `moved`: (slot, host as 4 or 16 bytes, port) of each address at which a cluster is no longer reached although
    it is at another one; connections that were going there stay with it.
    """

    drain_ms: int
    cuts_changed: bool = False
    moved: tuple = ()


# ---- one connection

cdef ListenerState* taker(Worker* worker, Connection* connection) noexcept nogil:
    """The listener that would take it now; NULL: none."""
    cdef ListenerState* state = connection.listener
    cdef ListenerState* found = NULL
    if state.hands_over or state.own_port == 0:
        found = state_at(
            <Directory*>atomic_load_pointer(<void**>&worker.shared.directory), &connection.destination, worker.number
        )
    if found != NULL:
        state = found
    while state != NULL and atomic_load8(&state.gone):
        state = <ListenerState*>atomic_load_pointer(<void**>&state.heir)
    return state


cdef inline bint reaches(Worker* worker, const Connection* connection, uint32_t slot) noexcept nogil:
    """Whether the slot is its cluster's."""
    cdef SlotVersion* version = slot_version(&worker.slots[slot]) if slot < worker.cursor_count else NULL
    return version != NULL and version.state == connection.cluster


cdef void recall(
    Connection* connection, const ListenerState* state, const Routes* routes, Protocols* protocols, Facts* facts
) noexcept nogil:
    """What this listener would find out of it."""
    cdef uint32_t port = connection.destination.port
    protocols.count = 0
    protocols.incomplete = 0
    facts.destination = connection.destination
    if facts.destination.family == 0:
        leg_local(&connection.down, &facts.destination)
    facts.destination.port = connection.destination.port
    facts.source = connection.downstream
    facts.direct_source = connection.direct_source
    facts.tls = False
    facts.server_name = NULL
    facts.server_name_length = 0
    facts.authority = NULL
    facts.authority_length = 0
    facts.protocols = protocols
    if connection.how == BEGAN_TLS:
        if state.inspect_tls and route_inspects_tls(routes, port):
            facts.tls = True
            if connection.said != NULL:
                recall_hello(connection.said, protocols, facts)
    elif connection.how >= BEGAN_HTTP and route_inspects_http(routes, port):
        facts.protocols = http_protocols(<HttpProtocol>(connection.how - BEGAN_HTTP))


cdef bint leads_by_request(Worker* worker, Connection* connection, const RouteChain* chain) noexcept nogil:
    cdef const uint8_t* authority = NULL
    cdef const Target* targets
    cdef uint32_t length = 0
    cdef uint32_t count, index
    cdef HttpHead head
    if connection.how == <int>BEGAN_HTTP + <int>HTTP_2:
        name_destination(connection, &head)
        authority = <const uint8_t*>head.authority
        length = head.authority_length
    elif connection.said != NULL and connection.said.is_authority:
        authority = connection.said.bytes
        length = connection.said.name_length
    targets = http_targets(chain.http_routes, authority, length, &count)
    for index in range(count):
        if reaches(worker, connection, targets[index].slot):
            return True
    return False


cdef bint leads(Worker* worker, Connection* connection, const RouteChain* chain, bint is_tls) noexcept nogil:
    """Whether connections of the chain go to its cluster."""
    cdef uint32_t target
    if chain.http_routes != NULL:
        return not is_tls and leads_by_request(worker, connection, chain)
    for target in range(chain.target_count):
        if reaches(worker, connection, chain.targets[target].cluster_slot):
            return True
    return False


cdef bint has_moved(Worker* worker, const Connection* connection) noexcept nogil:
    """Whether its cluster was reached where it was going, and is elsewhere now."""
    cdef MoveList* list = <MoveList*>atomic_load_pointer(<void**>&worker.shared.moves)
    cdef const Address* wanted = &connection.destination
    cdef uint32_t low = 0
    cdef uint32_t high, middle
    if list == NULL or not wanted.family or not reaches(worker, connection, connection.slot):
        return False
    high = list.count
    while low < high:
        middle = (low + high) >> 1
        if list.moves[middle].slot < connection.slot:
            low = middle + 1
        else:
            high = middle
    while low < list.count and list.moves[low].slot == connection.slot:
        if (
            list.moves[low].place.family == wanted.family and list.moves[low].place.port == wanted.port
            and memcmp(list.moves[low].place.bytes, wanted.bytes, 4 if wanted.family == 4 else 16) == 0
        ):
            return True
        low += 1
    return False


cdef bint is_allowed(
    Connection* connection, const CompiledPolicies* policies, Facts* facts, PolicyVerdict* verdict
) noexcept nogil:
    cdef Protocols nothing
    cdef Peer peer
    cdef char name[PEER_CAPACITY]
    cdef ssize_t length = leg_peer(&connection.down, name, sizeof(name))
    memset(&peer, 0, sizeof(peer))
    if length >= 0:
        peer.name = name
        peer.length = <uint32_t>length
        peer.unread = length == 0
    # As at first: not what the listener looks at, but all that is known.
    facts.tls = connection.down.tls != NULL or connection.how == BEGAN_TLS
    if connection.said != NULL and not connection.said.is_authority:
        facts.server_name = <const char*>connection.said.bytes
        facts.server_name_length = connection.said.name_length
    nothing.count = 0
    nothing.incomplete = 0
    facts.protocols = &nothing
    judge_policies(policies, facts, &peer, verdict)
    return verdict.allowed


cdef const RouteChain* find_chain(
    Worker* worker, Connection* connection, const ListenerState* state, Facts* facts, Protocols* protocols
) noexcept nogil:
    """The chain that would take it to its cluster, as it is; NULL: none."""
    cdef const Routes* routes
    cdef const RouteChain* chain
    cdef int index
    routes = <Routes*>atomic_load_pointer(<void**>&state.routes)
    if routes == NULL:
        return NULL
    recall(connection, state, routes, protocols, facts)
    index = route_match(routes, facts)
    if index < 0:
        return NULL
    chain = route_chain(routes, index)
    if not leads(worker, connection, chain, facts.tls):
        return NULL
    # A secret that is missing for a while is no reason: nobody's certificate changed.
    if chain.refusal == <int>Reason.NO_CERTIFICATE:
        return chain
    if chain.refusal or not leg_admits(
        &connection.down, routes.terminations[chain.termination - 1].context if chain.termination else NULL
    ):
        return NULL
    return chain


cdef int judge(
    Worker* worker, Connection* connection, PolicyVerdict* verdict, const CompiledPolicies** policies
) noexcept nogil:
    """NONE, or the Reason why it cannot stay; of a policy what it says."""
    cdef ListenerState* home = connection.listener
    cdef ListenerState* state
    cdef const Routes* routes = <Routes*>atomic_load_pointer(<void**>&home.routes)
    cdef const RouteChain* chain = NULL
    cdef Protocols protocols
    cdef Facts facts
    if (
        not atomic_load8(&home.gone) and routes != NULL and connection.chain_number
        and route_has(routes, connection.chain_number)
    ):
        return <int>Reason.NONE
    if atomic_load8(&worker.shared.cuts_changed):
        return <int>Reason.CHAIN_CHANGED
    state = taker(worker, connection)
    if state != NULL:
        chain = find_chain(worker, connection, state, &facts, &protocols)
    if chain == NULL:
        return <int>(Reason.NONE if has_moved(worker, connection) else Reason.CHAIN_CHANGED)
    if chain.policies != NULL and not is_allowed(connection, chain.policies, &facts, verdict):
        policies[0] = chain.policies
        return <int>Reason.POLICY_CHANGED
    connection.chain_number = chain.number
    return <int>Reason.NONE


cdef void review(Worker* worker, Connection* connection) noexcept nogil:
    cdef const CompiledPolicies* policies = NULL
    cdef PolicyVerdict verdict
    cdef int reason
    connection.judged = atomic_load_acquire(&connection.listener.generation)
    if connection.ends_for and atomic_load8(&worker.shared.cuts_changed):
        # As in Envoy, what drains does not come back.
        return
    reason = judge(worker, connection, &verdict, &policies)
    if reason and not connection.ends_for:
        worker.last_marked = max(worker.now, worker.last_marked + <uint64_t>END_GAP)
        connection.stage.relayed.ends = worker.last_marked + atomic_load64(&worker.shared.drain_ns)
        # An earlier timer comes upon it by itself.
        if not connection.timer.scheduled or connection.timer.deadline > connection.stage.relayed.ends >> TICK_SHIFT:
            schedule_in(worker, &connection.timer, connection.stage.relayed.ends - worker.now)
    connection.ends_for = <uint8_t>reason


cdef bint end_reviewed(Worker* worker, Connection* connection) noexcept nogil:
    cdef const CompiledPolicies* policies = NULL
    cdef PolicyVerdict verdict
    cdef int reason = connection.ends_for
    if not atomic_load8(&worker.shared.cuts_changed):
        reason = judge(worker, connection, &verdict, &policies)
        connection.ends_for = <uint8_t>reason
    if policies != NULL and connection.record != NULL:
        note_policy(connection.record, policies, &verdict)
    if reason:
        finish(worker, connection, reason)
    return reason != 0


# ---- all of a worker

cdef void review_some(Worker* worker) noexcept nogil:
    cdef int looks = LOOKS
    cdef Connection* connection
    if worker.review == NULL:
        # A push that comes meanwhile makes another round of it: those at the end would else wait for the last of many.
        worker.reviewed = atomic_load_acquire(&worker.shared.reviews)
        worker.review = worker.open
    while worker.review != NULL and looks > 0:
        connection = worker.review
        worker.review = connection.next
        looks -= 1
        if connection.phase == PHASE_RELAY and is_outdated(connection):
            looks -= JUDGEMENT
            review(worker, connection)
    if has_reviews(worker):
        raise_ready(worker)


# ---- the control side

@cython.final
@cython.auto_pickle(False)
cdef class Moves:
    """Clusters that are reached at another address than before. Made by an Engine."""

    def __init__(self):
        raise TypeError("an Engine makes Moves")

    def __dealloc__(self):
        free(self.list.moves)

    def __reduce__(self):
        raise TypeError("Moves cannot be pickled")


cdef Moves moves_of(object moved):
    cdef Moves made = Moves.__new__(Moves)
    cdef Move* move
    cdef bytes host
    made.list.moves = <Move*>calloc(len(moved) or 1, sizeof(Move))
    if made.list.moves == NULL:
        raise MemoryError
    for slot, packed, port in sorted(moved):
        host = packed
        if len(host) not in (4, 16) or not 0 <= port <= 65535:
            raise ValueError(f"{packed!r} and port {port} are no address")
        move = &made.list.moves[made.list.count]
        move.slot = slot
        move.place.family = 4 if len(host) == 4 else 6
        move.place.port = port
        memcpy(move.place.bytes, <const char*>host, len(host))
        made.list.count += 1
    return made


cdef object begin_review(
    Shared* shared, Worker** workers, uint32_t count, object listeners, object settings
):
    """The Moves that workers may use from now on. The caller keeps those before until none can hold them."""
    cdef Moves made = moves_of(settings.moved) if settings.moved else None
    cdef ListenerStates own
    cdef uint64_t one = 1
    cdef uint32_t number
    cdef bint wanted = False
    if not 0 <= settings.drain_ms <= LONGEST_DRAIN_MS:
        raise ValueError(f"drain_ms {settings.drain_ms} is outside 0..{LONGEST_DRAIN_MS}")
    atomic_store64(&shared.drain_ns, <uint64_t>settings.drain_ms * MILLISECOND)
    atomic_store8(&shared.cuts_changed, bool(settings.cuts_changed))
    atomic_store_pointer(<void**>&shared.moves, &made.list if made is not None else NULL)
    for own in listeners:
        wanted |= own.outdate()
    if wanted:
        atomic_add(&shared.reviews, 1)
        for number in range(count):
            if shared.threaded:
                write(workers[number].ready_fd, &one, sizeof(one))
            else:
                raise_ready(workers[number])
    return made
