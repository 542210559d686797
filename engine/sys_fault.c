/* SPDX-License-Identifier: MIT */
/* Faults for tests: makes the nth trip of a thread to the kernel fail. See engine/sys_call.h. */
#include "engine/sys.h"
#include "engine/sys_call.h"

#ifdef RDY_FAULTS

/* The counts are per thread, so that a test is not disturbed by what other threads call. */
static _Thread_local struct {
    uint64_t calls;   /* since the last rdy_sys_fail_nth() */
    uint64_t fail_at; /* value of @calls at which to fail; 0 never */
    bool fail_all;    /* each fails, until that is turned off */
    int err;          /* positive */
} faults;

bool rdy_sys_fails(void)
{
    faults.calls++;
    if (rdy_likely(faults.calls != faults.fail_at && !faults.fail_all))
        return false;
    errno = faults.err;
    return true;
}

uint64_t rdy_sys_fail_nth(uint64_t nth, int err)
{
    uint64_t calls = faults.calls;

    rdy_assert(nth == 0 || err != 0);
    faults.calls = 0;
    faults.fail_at = nth;
    faults.fail_all = false;
    faults.err = err < 0 ? -err : err;
    return calls;
}

uint64_t rdy_sys_fail_all(int err)
{
    uint64_t calls = rdy_sys_fail_nth(0, err);

    faults.fail_all = err != 0;
    return calls;
}

#else

uint64_t rdy_sys_fail_nth(uint64_t nth, int err)
{
    (void)nth;
    (void)err;
    return 0;
}

uint64_t rdy_sys_fail_all(int err)
{
    (void)err;
    return 0;
}

#endif
