/* What no SNI proxy in user space can leave out, and nothing else: accept, peek the hello, find the name, connect, relay
 * (copy, then splice through one pipe a worker). To measure against, not to use: it has no timeouts, no limits, no
 * routes and trusts its clients. Arguments: port, sink port, SNI.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIPE_BYTES = 1024 * 1024, COPY_BYTES = 16 * 1024, EVENTS = 256 };

struct side {
    int fd;
    struct side *other;  /* NULL while the hello is awaited; the pair lives in one block */
    uint64_t received;
    int pipe[2];         /* bytes taken from this side that the other did not take; -1 without */
    size_t in_pipe;
    bool ended, closed, waits; /* waits: until the other side can be written */
    struct side *next_closed;
};

static int epoll, spare[2] = {-1, -1};
static struct sockaddr_in sink;
static const char *server_name;
static struct side *closed_now;
static char buffer[COPY_BYTES];

static void add(struct side *side)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = side};
    const int on = 1;
    setsockopt(side->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_ctl(epoll, EPOLL_CTL_ADD, side->fd, &event);
}

/* Memory is given back after the batch of events, which may still name it. */
static void drop(struct side *side)
{
    struct side *both[2] = {side, side->other};
    for (int i = 0; i < 2; i++)
        if (both[i] && !both[i]->closed) {
            both[i]->closed = true;
            close(both[i]->fd);
            if (both[i]->pipe[0] >= 0) {
                close(both[i]->pipe[0]);
                close(both[i]->pipe[1]);
            }
        }
    side->next_closed = closed_now;
    closed_now = side;
}

/* Move what there is from one side to the other. False when the connection is over. */
static bool move(struct side *from)
{
    struct side *to = from->other;
    from->waits = false;
    for (;;) {
        while (from->in_pipe) {
            const ssize_t put = splice(from->pipe[0], NULL, to->fd, NULL, from->in_pipe, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
            if (put < 0) {
                from->waits = errno == EAGAIN;
                return from->waits;
            }
            from->in_pipe -= (size_t)put;
        }
        if (from->ended)
            return !to->ended;
        ssize_t got;
        if (from->received < COPY_BYTES) {
            got = recv(from->fd, buffer, sizeof buffer, 0);
            /* So few bytes that the other side's empty queue takes them. */
            if (got > 0 && send(to->fd, buffer, (size_t)got, MSG_NOSIGNAL) != got)
                return false;
            if (got > 0 && got < (ssize_t)sizeof buffer) {
                from->received += (uint64_t)got;
                return true; /* edge-triggered: whatever comes later raises another event */
            }
        } else {
            if (from->pipe[0] < 0) {
                if (spare[0] < 0) {
                    if (pipe2(spare, O_NONBLOCK) < 0)
                        return false;
                    fcntl(spare[0], F_SETPIPE_SZ, PIPE_BYTES);
                }
                memcpy(from->pipe, spare, sizeof spare);
                spare[0] = -1;
            }
            got = splice(from->fd, NULL, from->pipe[1], NULL, PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
            if (got > 0)
                from->in_pipe = (size_t)got;
        }
        if (got < 0)
            return errno == EAGAIN;
        if (got == 0) {
            from->ended = true;
            if (to->ended)
                return false;
            shutdown(to->fd, SHUT_WR);
            return true;
        }
        from->received += (uint64_t)got;
    }
}

/* The hello is peeked, not taken. False when the connection is over. */
static bool sniff(struct side *client)
{
    unsigned char *hello = (unsigned char *)buffer;
    const ssize_t got = recv(client->fd, hello, sizeof buffer, MSG_PEEK);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    if (got < 5 || got < 5 + (hello[3] << 8 | hello[4]))
        return true;
    if (memmem(hello, (size_t)got, server_name, strlen(server_name)) == NULL)
        return false;
    struct side *upstream = client + 1;
    upstream->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (upstream->fd < 0 || (connect(upstream->fd, (struct sockaddr *)&sink, sizeof sink) < 0 && errno != EINPROGRESS))
        return false;
    upstream->other = client;
    client->other = upstream;
    client->waits = true;
    add(upstream);
    return true;
}

int main(int count, char **arguments)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    struct epoll_event events[EVENTS];
    const int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (count != 4)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sink = here;
    here.sin_port = htons((uint16_t)atoi(arguments[1]));
    sink.sin_port = htons((uint16_t)atoi(arguments[2]));
    server_name = arguments[3];
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 4096) < 0) {
        perror("floor: listen");
        return 1;
    }
    epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN});
    for (;;) {
        const int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct side *side = events[i].data.ptr;
            if (side == NULL) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    struct side *pair = calloc(2, sizeof *pair);
                    if (pair == NULL)
                        return 1;
                    pair[0].fd = fd;
                    pair[0].pipe[0] = pair[1].pipe[0] = -1;
                    add(pair);
                }
                continue;
            }
            if (side->closed)
                continue;
            bool alive = !(events[i].events & EPOLLERR);
            if (alive && side->other == NULL)
                alive = sniff(side);
            else if (alive)
                alive = (side->waits || !(events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) || move(side)) &&
                        (!side->other->waits || !(events[i].events & EPOLLOUT) || move(side->other));
            if (!alive)
                drop(side);
        }
        while (closed_now) {
            struct side *side = closed_now;
            closed_now = side->next_closed;
            free(side->other && side->other < side ? side->other : side);
        }
    }
}
