@settings

@trades

-- What is late, gaps and finals are judged by kandle: windows here take late events for days.
-- Bars of 1h are made by kandle from those of 1m.

@lots_1m_live
