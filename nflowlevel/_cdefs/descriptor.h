/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Descriptors that have an owner from the moment they are open. Python may be interrupted between any two steps, also
 * between a call and keeping what it returned; so a descriptor is put into its owner here, and closed by the owner's
 * destructor here. Each function that opens takes an owner that owns nothing, and returns 0 or -errno.
 * This file is read twice: by the C compiler and by cffi, which takes no preprocessor lines. */
struct nfl_descriptor { int fd; };	/* -1: none */

/* Close it, if it is open; from any thread, and once. */
void nfl_descriptor_close(struct nfl_descriptor *owner);

int nfl_descriptor_open(struct nfl_descriptor *owner, int directory, const char *path, int flags);
int nfl_descriptor_event(struct nfl_descriptor *owner);
int nfl_descriptor_ioctl(struct nfl_descriptor *owner, int fd, unsigned long request);
int nfl_descriptor_watch(struct nfl_descriptor *owner, const char *path, uint32_t events);

/* Open a network namespace and nothing else, whatever lies at `path`: not even a FIFO is waited for. */
int nfl_namespace_open(struct nfl_descriptor *owner, const char *path);

/* A visit to another namespace: where the thread comes from, and whether it is away. */
struct nfl_visit {
	struct nfl_descriptor home;
	int away;
};

/* Put the calling thread into a namespace, only if it can come back. */
int nfl_visit_begin(struct nfl_visit *visit, int netns);
void nfl_visit_end(struct nfl_visit *visit);

/* A netlink socket of `bus`, in `netns` unless that is -1; *entered tells whether an error came after entering it. */
int nfl_netlink_open(struct nfl_descriptor *owner, int bus, int netns, int *entered);

/* Bind it to multicast groups; return the address that the kernel gave it, at *port. */
int nfl_netlink_bind(int fd, uint32_t groups, uint32_t *port);

/* Let nobody but the kernel send to it. Who has CAP_NET_ADMIN in the namespace can send to its groups all the same. */
int nfl_netlink_connect(int fd);

/* Receive the next datagram of the kernel's without waiting for it, and throw those of others away, counted in *foreign; its whole
 * length, also of one that does not fit, or -errno. */
int64_t nfl_netlink_receive(int fd, void *buffer, size_t size, uint64_t *foreign);
