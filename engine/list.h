/* SPDX-License-Identifier: MIT */
/*
 * Circular lists with a sentinel. A node in no list points to itself, so that taking it out twice
 * is harmless and needs no list head.
 */
#ifndef RDY_ENGINE_LIST_H
#define RDY_ENGINE_LIST_H

#include "engine/base.h"

static inline void rdy_list_init(struct rdy_link *node)
{
    node->next = node;
    node->prev = node;
}

static inline bool rdy_list_is_empty(const struct rdy_link *list)
{
    return list->next == list;
}

static inline void rdy_list_push_back(struct rdy_link *list, struct rdy_link *node)
{
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}

static inline void rdy_list_unlink(struct rdy_link *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    rdy_list_init(node);
}

/* The first node, taken out, or NULL. */
static inline struct rdy_link *rdy_list_pop(struct rdy_link *list)
{
    struct rdy_link *node = list->next;

    if (node == list)
        return NULL;
    rdy_list_unlink(node);
    return node;
}

/* Moves all of @from behind @list, in order; @from is empty then. */
static inline void rdy_list_append(struct rdy_link *list, struct rdy_link *from)
{
    if (rdy_list_is_empty(from))
        return;
    from->next->prev = list->prev;
    from->prev->next = list;
    list->prev->next = from->next;
    list->prev = from->prev;
    rdy_list_init(from);
}

#endif
