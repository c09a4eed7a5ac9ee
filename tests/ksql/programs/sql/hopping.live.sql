@settings

@trades

-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.
-- kandle makes bars of 5m_every_1m from those of 1m.

@lots_1m_live
