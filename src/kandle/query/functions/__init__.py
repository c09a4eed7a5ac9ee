"""The functions of the query language, which users import as `kandle.functions`.

Each function is typed as a function of plain values and records a call instead of computing it. Aggregates turn the events of a
bucket into one value. All other functions are scalar: they turn the values of one event or bar into one value.

NULL: aggregates skip events whose value is NULL. A scalar function returns NULL if one of its arguments is NULL, unless its
description says otherwise.
"""
