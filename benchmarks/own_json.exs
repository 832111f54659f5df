# What Elixir takes to parse and print the JSON in a file, in milliseconds, by jiffy (in C; `apt-get install erlang-jiffy`): OTP has
# had a module for it only from 27 on. In a process of its own each time, as a program would.
[path] = System.argv()
text = File.read!(path)

work = fn -> text |> :jiffy.decode([:return_maps, :use_nil]) |> :jiffy.encode([:use_nil]) |> IO.iodata_to_binary() end
{time, _} = fn -> :timer.tc(work) end |> Task.async() |> Task.await(:infinity)
IO.puts(time / 1000)
