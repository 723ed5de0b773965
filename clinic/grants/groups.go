package grants

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// SetHomeGroups says to which groups a home belongs, in place of those before. The error wraps ErrBounds or register.ErrNotFound.
func (s *Service) SetHomeGroups(ctx context.Context, who, home string, groups []string) error {
	if err := s.checkGroups(ctx, home, groups); err != nil {
		return err
	}
	err := s.Store.Write(ctx, func(tx *sql.Tx) error {
		before, err := homeGroups(ctx, tx, home)
		if err != nil {
			return err
		}
		return s.setHomeGroups(ctx, tx, who, home, before, groups)
	})
	if err != nil {
		return fmt.Errorf("put home %s into groups: %w", home, err)
	}
	return nil
}

func (s *Service) checkGroups(ctx context.Context, home string, groups []string) error {
	for _, g := range groups {
		if err := checkName("group of homes", g); err != nil {
			return flaw("name", err)
		}
	}
	_, err := s.Register.Home(ctx, home)
	return err
}

// GroupState names the homes that a group has, in whatever order: those of another time have another name.
func GroupState(homes []string) string {
	h := sha256.New()
	for _, id := range sorted(homes) {
		fmt.Fprintf(h, "%d %s ", len(id), id)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// SetGroupHomes says which homes belong to a group, in place of those before; a group without homes is none. before is the GroupState of the homes that it is believed to
// have: if it has others, somebody else has changed it meanwhile and the error wraps ErrChanged. Else errors wrap ErrBounds or register.ErrNotFound.
func (s *Service) SetGroupHomes(ctx context.Context, who, name, before string, homes []string) error {
	homes = sorted(homes)
	if err := checkName("group of homes", name); err != nil {
		return flaw("name", err)
	}
	for _, h := range homes {
		if _, err := s.Register.Home(ctx, h); err != nil {
			return flaw("homes", fmt.Errorf("group of homes %q: %w", name, err))
		}
	}
	err := s.Store.Write(ctx, func(tx *sql.Tx) error {
		all, err := groupsOf(ctx, tx)
		if err != nil {
			return err
		}
		was := sorted(all[name])
		if GroupState(was) != before {
			return ErrChanged
		}
		for _, h := range sorted(slices.Concat(was, homes)) {
			has, want := slices.Contains(was, h), slices.Contains(homes, h)
			if has == want {
				continue
			}
			own, err := homeGroups(ctx, tx, h)
			if err != nil {
				return err
			}
			next := slices.DeleteFunc(slices.Clone(own), func(g string) bool { return g == name })
			if want {
				next = append(next, name)
			}
			if err := s.setHomeGroups(ctx, tx, who, h, own, next); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put homes into group %q: %w", name, err)
	}
	return nil
}

func (s *Service) setHomeGroups(ctx context.Context, tx *sql.Tx, who, home string, before, groups []string) error {
	groups = sorted(groups)
	if slices.Equal(before, groups) {
		return nil
	}
	if len(groups) > protocol.MaxScope {
		return flaw("homes", fmt.Errorf("home %s in %d groups %w: at most %d", home, len(groups), ErrBounds, protocol.MaxScope))
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
	return groupsOf(ctx, s.Store.Read())
}

func groupsOf(ctx context.Context, q queryer) (map[string][]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT name, home FROM grant_home_groups ORDER BY name, home")
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
