package grants

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// SetHomeGroups says to which groups a home belongs, in place of those before. The error wraps ErrBounds or register.ErrNotFound.
func (s *Service) SetHomeGroups(ctx context.Context, who, home string, groups []string) error {
	groups = sorted(groups)
	if len(groups) > protocol.MaxScope {
		return fmt.Errorf("put home %s into groups: %d of them %w: at most %d", home, len(groups), ErrBounds, protocol.MaxScope)
	}
	for _, g := range groups {
		if err := checkName("group of homes", g); err != nil {
			return err
		}
	}
	if _, err := s.Register.Home(ctx, home); err != nil {
		return err
	}
	err := s.Store.Write(ctx, func(tx *sql.Tx) error {
		before, err := homeGroups(ctx, tx, home)
		if err != nil || slices.Equal(before, groups) {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM grant_home_groups WHERE home = ?", home); err != nil {
			return err
		}
		for _, g := range groups {
			if _, err := tx.ExecContext(ctx, "INSERT INTO grant_home_groups VALUES (?, ?)", home, g); err != nil {
				return err
			}
		}
		if err := s.changed(ctx, tx); err != nil {
			return err
		}
		left := slices.DeleteFunc(slices.Clone(before), func(g string) bool { return slices.Contains(groups, g) })
		persons, err := list(ctx, tx, "WHERE ended IS NULL AND home_groups <> '[]' AND home_groups <> 'null'")
		if err != nil {
			return err
		}
		for _, p := range persons { // of those who could call the home by a group that it has left
			if slices.ContainsFunc(left, func(g string) bool { return slices.Contains(p.Scope.Groups, g) }) {
				if err := s.noteEnd(ctx, tx, p.Person, "a home has left a group"); err != nil {
					return err
				}
			}
		}
		return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.GroupChanged, Subject: home,
			Detail: map[string]string{"groups": strings.Join(groups, ", "), "before": strings.Join(before, ", ")}})
	})
	if err != nil {
		return fmt.Errorf("put home %s into groups: %w", home, err)
	}
	return nil
}

// HomeGroups returns the groups to which a home belongs, in ascending order.
func (s *Service) HomeGroups(ctx context.Context, home string) ([]string, error) {
	return homeGroups(ctx, s.Store.Read(), home)
}

func homeGroups(ctx context.Context, q queryer, home string) ([]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT name FROM grant_home_groups WHERE home = ? ORDER BY name", home)
	if err != nil {
		return nil, fmt.Errorf("read groups of homes: %w", err)
	}
	defer rows.Close()
	names := []string{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read groups of homes: %w", err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// Groups returns the homes of each group.
func (s *Service) Groups(ctx context.Context) (map[string][]string, error) {
	rows, err := s.Store.Read().QueryContext(ctx, "SELECT name, home FROM grant_home_groups ORDER BY name, home")
	if err != nil {
		return nil, fmt.Errorf("read groups of homes: %w", err)
	}
	defer rows.Close()
	result := map[string][]string{}
	for rows.Next() {
		var name, home string
		if err := rows.Scan(&name, &home); err != nil {
			return nil, fmt.Errorf("read groups of homes: %w", err)
		}
		result[name] = append(result[name], home)
	}
	return result, rows.Err()
}

// changed counts what policies follow from.
func (s *Service) changed(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "UPDATE grant_changes SET n = n + 1")
	return err
}
