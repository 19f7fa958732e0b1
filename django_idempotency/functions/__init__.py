"""Operations that are no requests: functions that run once per key."""
