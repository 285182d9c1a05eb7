/* SPDX-License-Identifier: GPL-2.0-or-later
 * libmnl: what of libmnl/libmnl.h the binding uses. Numbers are left to the compiler. */
struct nlmsghdr { uint32_t nlmsg_len; uint16_t nlmsg_type; uint16_t nlmsg_flags; uint32_t nlmsg_seq; uint32_t nlmsg_pid; };
struct mnl_socket;

#define NETLINK_NETFILTER ...
#define NETLINK_ROUTE ...
#define NLM_F_REQUEST ...
#define NLM_F_ACK ...
#define NLM_F_DUMP ...
#define MNL_SOCKET_AUTOPID ...

struct mnl_socket *mnl_socket_fdopen(int fd);
int mnl_socket_bind(struct mnl_socket *nl, unsigned int groups, int pid);
int mnl_socket_close(struct mnl_socket *nl);
int mnl_socket_get_fd(const struct mnl_socket *nl);
unsigned int mnl_socket_get_portid(const struct mnl_socket *nl);
ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *req, size_t siz);
ssize_t mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf, size_t siz);
struct nlmsghdr *mnl_nlmsg_put_header(void *buf);
void *mnl_nlmsg_put_extra_header(struct nlmsghdr *nlh, size_t size);
void mnl_attr_put_u32(struct nlmsghdr *nlh, uint16_t type, uint32_t data);
void mnl_attr_put_u16(struct nlmsghdr *nlh, uint16_t type, uint16_t data);
