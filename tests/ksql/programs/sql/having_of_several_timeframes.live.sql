@settings

@trades

-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.
-- kandle applies the condition of having to final bars, since bars that it drops still count in the roll-up.
-- kandle makes bars of 5m from those of 1m.

@lots_1m_live
