# A list of connections that any of them may leave: those that wait for an endpoint, and those that are silent yet.
from eastgate.fastpath.loop.connection cimport Connection, WaitingList

cdef inline void list_append(WaitingList* waiting, Connection* connection) noexcept nogil:
    connection.next_listed = NULL
    connection.stage.approach.previous_waiting = waiting.last
    if waiting.last != NULL:
        waiting.last.next_listed = connection
    else:
        waiting.first = connection
    waiting.last = connection

# It must be in the list.
cdef inline void list_remove(WaitingList* waiting, Connection* connection) noexcept nogil:
    if connection.stage.approach.previous_waiting != NULL:
        connection.stage.approach.previous_waiting.next_listed = connection.next_listed
    else:
        waiting.first = connection.next_listed
    if connection.next_listed != NULL:
        connection.next_listed.stage.approach.previous_waiting = connection.stage.approach.previous_waiting
    else:
        waiting.last = connection.stage.approach.previous_waiting
    connection.next_listed = NULL
    connection.stage.approach.previous_waiting = NULL
