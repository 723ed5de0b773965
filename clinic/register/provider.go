package register

import (
	"context"
	"database/sql"
	"fmt"
	"unicode/utf8"

	"vindu/clinic/audit"
)

// MaxProvider bounds the name of a home's provider, in characters.
const MaxProvider = 60

// SetProvider notes who provides the line of a home, as an operator knows it: the clinic keeps no address by which it could tell. "" takes it back. The error wraps ErrText or ErrNotFound.
func (r *Register) SetProvider(ctx context.Context, who, home, provider string) error {
	if provider != "" {
		if err := checkText("the provider", provider); err != nil {
			return err
		}
		if n := utf8.RuneCountInString(provider); n > MaxProvider {
			return fmt.Errorf("%w: the provider has %d characters, at most %d", ErrText, n, MaxProvider)
		}
	}
	err := r.store.Write(ctx, func(tx *sql.Tx) error {
		h, err := readHome(ctx, tx, "homes.id = ?", home)
		if err != nil || h.Provider == provider {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE homes SET provider = ? WHERE id = ?", provider, home); err != nil {
			return err
		}
		return r.audit.AppendTx(ctx, tx, audit.Entry{
			Who: who, What: audit.ProviderSet, Subject: "home " + home, Detail: map[string]string{"before": h.Provider, "provider": provider},
		})
	})
	if err != nil {
		return fmt.Errorf("note the provider of home %s: %w", home, err)
	}
	return nil
}

// Providers returns the providers that homes have, those of most homes first, at most limit: whoever notes one is to spell it as the others did.
func (r *Register) Providers(ctx context.Context, limit int) ([]string, error) {
	rows, err := r.store.Read().QueryContext(ctx, "SELECT provider FROM homes WHERE provider != '' GROUP BY provider ORDER BY count(*) DESC, provider LIMIT ?", limit)
	if err != nil {
		return nil, fmt.Errorf("read providers: %w", err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var provider string
		if err := rows.Scan(&provider); err != nil {
			return nil, fmt.Errorf("read providers: %w", err)
		}
		list = append(list, provider)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read providers: %w", err)
	}
	return list, nil
}
