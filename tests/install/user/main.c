/* SPDX-License-Identifier: MIT */
/* The smallest program of a user: it opens a driver on whatever this kernel has, and turns once. */
#include <stdio.h>

#include <rdy/rdy.h>

int main(void)
{
    struct rdy_driver *driver;
    int err = rdy_driver_open(&driver, NULL);

    if (err) {
        (void)fprintf(stderr, "rdy_driver_open: %d\n", err);
        return 1;
    }
    err = rdy_driver_turn(driver, 0);
    (void)printf("%s: %s\n", rdy_driver_backend_name(driver), rdy_driver_backend_reason(driver));
    rdy_driver_close(driver);
    return err < 0;
}
