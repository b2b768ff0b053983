# A list of connections that any of them may leave: those that wait for an endpoint, and those that are silent yet.
from eastgate.fastpath.loop.connection cimport Connection, WaitingList

cdef inline void list_append(WaitingList* waiting, Connection* connection) noexcept nogil:
    connection.next_waiting = NULL
    connection.previous_waiting = waiting.last
    if waiting.last != NULL:
        waiting.last.next_waiting = connection
    else:
        waiting.first = connection
    waiting.last = connection

# It must be in the list.
cdef inline void list_remove(WaitingList* waiting, Connection* connection) noexcept nogil:
    if connection.previous_waiting != NULL:
        connection.previous_waiting.next_waiting = connection.next_waiting
    else:
        waiting.first = connection.next_waiting
    if connection.next_waiting != NULL:
        connection.next_waiting.previous_waiting = connection.previous_waiting
    else:
        waiting.last = connection.previous_waiting
    connection.next_waiting = NULL
    connection.previous_waiting = NULL
