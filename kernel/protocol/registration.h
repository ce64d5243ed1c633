/* registration.h - the startup handshake (JEP 66): a kernel that chose its ports itself tells them to its launcher. */
#ifndef JAEDA_KERNEL_PROTOCOL_REGISTRATION_H
#define JAEDA_KERNEL_PROTOCOL_REGISTRATION_H
#include "connection.h"
#include "wire.h"

enum { REGISTRATION_MS = 5000 };
/* Sends the ports and waits for the signed acknowledgement. Fails when none comes: nobody knows this kernel then. */
int registration_send(void *context, const struct connection *c, const struct wire_key *key, struct err *e);

#endif
