"""Times networks in a process that holds nothing but one runtime.

Run as a program (`python -m stopwatch`, in the folder above), so that neither autokd nor, unless
torch is what is timed, torch is imported in the process that is timed. It loads the files, prints
`ready`, waits for a line on standard input, so that the machine can be made quiet, times, and
prints one JSON object.
"""
