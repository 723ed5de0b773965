package store

import (
	"context"
	"os"
	"regexp"
)

// Shape is what can be said of a database without a word of what is in it.
type Shape struct {
	Steps map[string]int   `json:"steps"` // migrations that were run, by component
	Rows  map[string]int64 `json:"rows"`  // by table
	Bytes int64            `json:"bytes"` // of the file
	Log   int64            `json:"log_bytes"`
}

// named are names that this program gives. Others are left out: they would be somebody else's.
var named = regexp.MustCompile(`^[a-z][a-z_]{0,40}$`)

// Shape counts. It reads all tables' keys, which takes seconds where there are millions of rows.
func (s *Store) Shape(ctx context.Context) (Shape, error) {
	out := Shape{Steps: map[string]int{}, Rows: map[string]int64{}}
	rows, err := s.reader.QueryContext(ctx, "SELECT component, count(*) FROM migrations GROUP BY component")
	if err != nil {
		return out, s.explain("look at", err)
	}
	defer rows.Close()
	for rows.Next() {
		var component string
		var n int
		if err := rows.Scan(&component, &n); err != nil {
			return out, s.explain("look at", err)
		}
		if named.MatchString(component) {
			out.Steps[component] = n
		}
	}
	if err := rows.Err(); err != nil {
		return out, s.explain("look at", err)
	}
	tables, err := s.reader.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
	if err != nil {
		return out, s.explain("look at", err)
	}
	defer tables.Close()
	for tables.Next() {
		var name string
		if err := tables.Scan(&name); err != nil {
			return out, s.explain("look at", err)
		}
		if named.MatchString(name) {
			out.Rows[name] = 0
		}
	}
	if err := tables.Err(); err != nil {
		return out, s.explain("look at", err)
	}
	for name := range out.Rows {
		var n int64
		if err := s.reader.QueryRowContext(ctx, "SELECT count(*) FROM "+name).Scan(&n); err != nil {
			return out, s.explain("look at", err)
		}
		out.Rows[name] = n
	}
	for suffix, size := range map[string]*int64{"": &out.Bytes, "-wal": &out.Log} {
		if info, err := os.Stat(s.path + suffix); err == nil { // there may be no log
			*size = info.Size()
		}
	}
	return out, nil
}
