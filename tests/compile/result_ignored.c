/* SPDX-License-Identifier: MIT */
/* A result that says whether anything happened, thrown away; with VIOLATE only. */
#include <rdy/registration.h>

int watch(struct rdy_driver *driver, int fd, struct rdy_registration *reg);

int watch(struct rdy_driver *driver, int fd, struct rdy_registration *reg)
{
#ifdef VIOLATE
    rdy_register(driver, fd, RDY_READABLE, reg);
    return 0;
#else
    return rdy_register(driver, fd, RDY_READABLE, reg);
#endif
}
