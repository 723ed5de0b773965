package passkey

import (
	"context"
	"fmt"
	"time"
)

// Summary is what a list of persons says of one.
type Summary struct {
	Usable  int       // passkeys that sign in
	Used    time.Time // when one of these was last; zero if none was
	Invited bool      // an invitation can be used now
}

// Summaries returns those of all persons who have, or had, passkeys or an invitation.
func (s *Service) Summaries(ctx context.Context) (map[string]Summary, error) {
	rows, err := s.c.Store.Read().QueryContext(ctx, `SELECT person, sum(usable), max(used), max(invited) FROM (
			SELECT person, disabled IS NULL AND removed IS NULL AS usable, CASE WHEN disabled IS NULL AND removed IS NULL THEN coalesce(used, 0) ELSE 0 END AS used, 0 AS invited FROM passkeys
			UNION ALL SELECT person, 0, 0, `+open+` FROM passkey_invitations
		) GROUP BY person`, s.now().UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read passkeys: %w", err)
	}
	defer rows.Close()
	list := map[string]Summary{}
	for rows.Next() {
		var person string
		var m Summary
		var used int64
		if err := rows.Scan(&person, &m.Usable, &used, &m.Invited); err != nil {
			return nil, fmt.Errorf("read passkeys: %w", err)
		}
		if used != 0 {
			m.Used = time.UnixMilli(used)
		}
		list[person] = m
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read passkeys: %w", err)
	}
	return list, nil
}
