@settings

@trades

-- What is late, gaps and finals are judged by kandle: windows here take late events for days.
-- The condition of having is applied by kandle to finals, since bars that it drops still count in the roll-up.
-- Bars of 5m are made by kandle from those of 1m.

@lots_1m_live
