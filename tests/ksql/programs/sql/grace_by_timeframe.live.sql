@settings

@trades

-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.
-- kandle makes bars of 1h from those of 1m.

@lots_1m_live
