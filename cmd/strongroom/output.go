package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// An output is how a command prints its result.
type output struct{ format string }

func (o *output) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "json", "json or table")
}

// check refuses a wrong format before the command does anything.
func (o *output) check() error {
	if o.format != "json" && o.format != "table" {
		return usagef("--output %s: there are json and table", o.format)
	}
	return nil
}

// print prints v, which marshals to JSON. Columns are those of a table: names of members, inner ones after a dot.
func (o *output) print(w io.Writer, v any, columns ...string) error {
	if o.format == "table" {
		return printTable(w, v, columns)
	}
	return printJSON(w, v)
}

// printJSON prints as az does: two spaces, members in order of their names, nothing escaped for HTML.
func printJSON(w io.Writer, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	dec := json.NewDecoder(&buf)
	dec.UseNumber()
	var plain any // maps are encoded in the order of their keys
	if err := dec.Decode(&plain); err != nil {
		return err
	}
	enc = json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(plain)
}

// printTable prints one line for an object, or one for each object of a list.
func printTable(w io.Writer, v any, columns []string) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rows []map[string]any
	if len(raw) > 0 && raw[0] == '[' {
		err = json.Unmarshal(raw, &rows)
	} else {
		rows = make([]map[string]any, 1)
		err = json.Unmarshal(raw, &rows[0])
	}
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var head, rule []string
	for _, c := range columns {
		name := c[strings.LastIndexByte(c, '.')+1:]
		name = strings.ToUpper(name[:1]) + name[1:]
		head, rule = append(head, name), append(rule, strings.Repeat("-", len(name)))
	}
	fmt.Fprintf(tw, "%s\n%s\n", strings.Join(head, "\t"), strings.Join(rule, "\t"))
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(row, strings.Split(c, "."))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// cell is a member of a row, without what would break the table or drive a terminal.
func cell(row any, path []string) string {
	for _, name := range path {
		object, _ := row.(map[string]any)
		row = object[name]
	}
	switch v := row.(type) {
	case nil:
		return ""
	case string:
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, v)
	case map[string]any:
		var pairs []string
		for k, v := range v {
			pairs = append(pairs, fmt.Sprintf("%s=%v", k, v))
		}
		slices.Sort(pairs)
		return strings.Join(pairs, " ")
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, fmt.Sprint(e))
		}
		return strings.Join(all, " ")
	}
	return fmt.Sprint(row)
}
