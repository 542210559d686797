/* SPDX-License-Identifier: MIT */
/*
 * The end of a registration: engine/registration.c (release, set_claim), engine/dispatch.c
 * (release_entry, handle_cancelling, handle_last, rdy_driver_give) and uring/poll.c (take_cancel).
 *
 * One slot of the slab lives LIVES times. Two holders of copies of a registration release it, from
 * any thread; one wins. The driver asks the kernel to cancel, and gives the slot back when the last
 * completion has come. The kernel may end a poll by itself at any time, report events before, have
 * no room for a cancel, or answer that it was just then completing the target (-EALREADY, before
 * 5.17). A token is the slot's generation and the number of the arming.
 *
 * A slot is given back once in each life, when the kernel can say no more about it, so that the
 * check of a token, which guards against other backends, has nothing to refuse here; and whoever
 * released is rid of the slot in the end.
 */
// fault GIVE_EARLY: gives the slot back when the cancel has been queued
// fault NO_CLAIM: both holders release
// fault FORGET_BUSY: does not ask again when there was no room for the cancel
// fault FORGET_ALREADY: takes -EALREADY for an answer
// fault FORGET_LAST: does not give back what ended by itself while the cancel was under way

#define LIVES 2
#define IDLE 0
#define ARMED 1
#define CANCELLING 2
#define TOKENS 8
#define TOKEN(life, arming) ((life) * 4 + (arming))

#define EVENT 0 /* F_MORE */
#define LAST 1
#define ALREADY 2 /* the answer to a cancel */

byte life = 0; /* the slot's generation */
byte arming = 0;
byte kernel_state = IDLE; /* what the driver knows of the kernel */
bool is_live = false;
bool is_claimed = false;
bool is_leaving = false;
bool is_ended = false;
bool has_request = false; /* RELEASE stands in the inbox */
byte gives = 0;
byte winners = 0;
byte done = 0; /* holders who have had their answer */
byte spare_armings = 1; /* how often the kernel may end a poll by itself in a life */
byte busy_left = 1;
byte already_left = 1;
byte events_left = 1;

bool is_polled[TOKENS]; /* the kernel's: armed for this token */
byte said[TOKENS]; /* completions of it in the queue */
chan queue = [6] of { byte, byte }; /* what happened, token */
chan cancels = [2] of { byte };

#define quiet(t) (!is_polled[t] && said[t] == 0)

inline give()
{
    d_step {
        assert(is_live);
        assert(quiet(TOKEN(life, arming)));
        is_live = false;
        is_leaving = false;
        kernel_state = IDLE;
        gives++;
        assert(gives == life + 1);
    }
}

inline disarm()
{
    if
    :: busy_left > 0 ->
        busy_left--;
#ifndef FORGET_BUSY
        has_request = true;
#endif
    :: else ->
        cancels ! TOKEN(life, arming);
        kernel_state = CANCELLING;
#ifdef GIVE_EARLY
        give();
#endif
    fi
}

/* A life: registered by the driver's thread, released by one of two holders. */
active proctype holder_of_lives()
{
    byte lap = 0;

    do
    :: lap < LIVES ->
        d_step {
            life = lap;
            arming = 0;
            is_claimed = false;
            is_ended = false;
            is_live = true;
            kernel_state = ARMED;
            is_polled[TOKEN(life, 0)] = true;
            winners = 0;
            done = 0;
            spare_armings = 1;
        }
        run release(lap);
        run release(lap);
        !is_live -> skip;
        done == 2 && winners == 1 -> lap++
    :: else -> break
    od
}

proctype release(byte mine)
{
    bool is_ours = false;

    d_step { /* set_claim(), under the lock */
        if
#ifdef NO_CLAIM
        :: true -> is_ours = true
#else
        :: is_live && life == mine && !is_claimed ->
            is_claimed = true;
            is_ours = true;
#endif
        :: else -> skip
        fi
    }
    if
    :: is_ours ->
        winners++;
        is_ended = true;
        has_request = true;
    :: else -> skip
    fi;
    done++
}

active proctype kernel()
{
    byte t;

end:
    do
    :: cancels ? t ->
        if
        :: is_polled[t] && already_left > 0 ->
            already_left--;
            queue ! ALREADY, t;
        :: is_polled[t] ->
            d_step {
                is_polled[t] = false;
                said[t]++;
            }
            queue ! LAST, t;
        :: !is_polled[t] -> skip /* -ENOENT: its last has come, or is in the queue */
        fi
    :: is_polled[TOKEN(life, arming)] && events_left > 0 && len(queue) < 3 ->
        d_step {
            t = TOKEN(life, arming);
            events_left--;
            said[t]++;
        }
        queue ! EVENT, t;
    :: is_polled[TOKEN(life, arming)] && spare_armings > 0 && len(queue) < 3 ->
        d_step {
            t = TOKEN(life, arming);
            spare_armings--;
            is_polled[t] = false;
            said[t]++;
        }
        queue ! LAST, t;
    od
}

active proctype driver()
{
    byte what;
    byte t;

end:
    do
    :: has_request ->
        has_request = false;
        assert(is_live);
        is_leaving = true;
        if
        :: kernel_state == CANCELLING -> skip
        :: kernel_state == IDLE -> give()
        :: kernel_state == ARMED -> disarm()
        fi
    :: queue ? what, t ->
        if
        :: what == ALREADY ->
#ifndef FORGET_ALREADY
            cancels ! t;
#else
            skip;
#endif
        :: else ->
            said[t]--;
            assert(is_live && t == TOKEN(life, arming));
            if
            :: kernel_state == CANCELLING && what == LAST ->
                kernel_state = IDLE;
#ifndef FORGET_LAST
                if
                :: is_leaving -> give()
                :: else -> arming++
                fi
#endif
            :: kernel_state == ARMED && what == LAST ->
                d_step {
                    arming++;
                    kernel_state = IDLE;
                }
                if
                :: is_ended -> skip /* its release stands in the inbox */
                :: else ->
                    d_step {
                        is_polled[TOKEN(life, arming)] = true;
                        kernel_state = ARMED;
                    }
                fi
            :: else -> skip
            fi
        fi
    od
}

ltl released_is_given_back { [] (is_claimed && is_live -> <> !is_live) }
ltl every_life_ends { <> (gives == LIVES) }
